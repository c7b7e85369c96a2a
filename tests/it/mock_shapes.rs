//! The scripted provider on its own: its shapes are the providers' and its faults are those that the script names.

mod answers;
mod faults;
