//! What became of a command: open here, ended in the audit, or cut off by a crash and unknown.

use hexa_model::{CommandId, DeviceUid, ErrorCode, RelayAction};
use hexa_store::CommandRow;

use crate::Services;
use crate::auth::principal::Principal;
use crate::error::{Error, Result};

/// A command as its owner may see it.
#[derive(Debug)]
pub enum CommandView {
    /// Neither acknowledged nor timed out yet.
    Open {
        /// Where.
        device: DeviceUid,
        /// What.
        action: RelayAction,
    },
    /// It has its audit row.
    Ended {
        /// Where; none when the device was deleted.
        device: Option<DeviceUid>,
        /// Its row, with the follow-up.
        row: Box<CommandRow>,
    },
}

/// Finds a command that the principal gave, or that went to a device the principal may see.
///
/// # Errors
/// `not_found`: unknown, foreign, or cut off by a crash before it ended.
pub async fn find(services: &Services, by: &Principal, id: CommandId) -> Result<CommandView> {
    let none = || Error::new(ErrorCode::NotFound, "there is no such command, or it is not yours");
    let Some(row) = services.store.command_result(id).await? else {
        return match services.open_command(id) {
            Some((live, action)) if services.may_control(by.actor(), &live) => {
                Ok(CommandView::Open { device: live.uid.clone(), action })
            }
            _ => Err(none()),
        };
    };
    let device = match row.device {
        Some(key) => services.store.device_by_key(key).await?,
        None => None,
    };
    let own = row.actor_id == Some(by.account.key);
    let owner = device.as_ref().is_some_and(|d| d.owner == Some(by.account.key));
    if !(own || owner || by.is_admin()) {
        return Err(none());
    }
    Ok(CommandView::Ended { device: device.map(|d| d.uid), row: Box::new(row) })
}
