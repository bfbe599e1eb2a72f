//! What a committed change does to what this room has in memory.

use hexa_model::Change;
use hexa_model::event::AccessEnded;

use crate::Accounts;

impl Accounts {
    /// Applies a committed change to the memory of this process and tells the bus. Applying one late or twice does no
    /// harm; one of an unknown kind drops what it may concern, and one of another room is left to it.
    pub fn apply(&self, change: &Change) {
        match change {
            Change::Account { user, id, epoch, ends_access } => {
                self.account_changed(*id, *epoch);
                if *ends_access {
                    self.bus.access_ended(AccessEnded::Account(*user));
                }
            }
            Change::Sessions { user, ended } => {
                self.sessions_ended(ended);
                for session in ended {
                    self.bus.access_ended(AccessEnded::Session(*user, *session));
                }
            }
            Change::Token { user, id } => {
                self.forget_token(*id);
                self.bus.access_ended(AccessEnded::Token(*user, *id));
            }
            Change::SigningKeys { ends_access } => {
                self.keys_changed(*ends_access);
                if *ends_access {
                    self.bus.access_ended(AccessEnded::Keys);
                }
            }
            Change::Device { .. } => {}
            Change::TimesSetRight => self.forget_tokens(),
            Change::Unknown => self.forget_everything(),
        }
    }
}
