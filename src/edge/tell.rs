//! Writes into the program's log what a step had to say: the relay has no log of its own.

use crate::relay::note::{Gravity, Note};

pub fn tell(notes: impl IntoIterator<Item = Note>) {
    for Note { gravity, text } in notes {
        match gravity {
            Gravity::Error => log::error!("{text}"),
            Gravity::Warning => log::warn!("{text}"),
        }
    }
}
