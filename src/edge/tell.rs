//! Writes into the program's log what a step had to say: the relay has no log of its own.

use crate::relay::note::{Gravity, Note};

pub fn tell(notes: impl IntoIterator<Item = Note>) {
    for Note { gravity, subject, text } in notes {
        match gravity {
            Gravity::Error => log::error!(target: subject.log_name(), "{text}"),
            Gravity::Warning => log::warn!(target: subject.log_name(), "{text}"),
        }
    }
}
