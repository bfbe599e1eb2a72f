//! `hexa invite`: links with which somebody may make an account, for admins.

use std::process::ExitCode;

use ::http::Method;
use anyhow::bail;
use serde_json::{Value, json};

use super::remote::{Where, pages, run, table};

/// What to do with invitations.
#[derive(Debug, clap::Subcommand)]
pub(super) enum InviteCommand {
    /// Create an invitation: prints a link that works once, within 7 days.
    Create {
        /// The only e-mail that may be registered with it [default: any]
        #[arg(long)]
        email: Option<String>,
        /// Note that is shown in the list
        #[arg(long)]
        note: Option<String>,
        #[command(flatten)]
        at: Where,
    },
    /// List invitations, the newest first.
    List {
        /// Only those that can still be used
        #[arg(long)]
        open: bool,
        #[command(flatten)]
        at: Where,
    },
    /// Revoke an invitation, so that nobody can use it.
    Revoke {
        /// Id of the invitation
        id: String,
        #[command(flatten)]
        at: Where,
    },
}

const INVITATIONS: &str = "/api/v1/admin/invitations";

fn line(invitation: &Value) -> [String; 5] {
    let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    let who = match invitation["used_by"]["email"].as_str() {
        Some(email) => email.to_owned(),
        None => text(&invitation["email"]),
    };
    [
        text(&invitation["id"]),
        text(&invitation["state"]),
        text(&invitation["expires_at"]),
        who,
        text(&invitation["note"]),
    ]
}

/// Runs `hexa invite create | list | revoke`.
pub(super) fn invite(command: InviteCommand) -> ExitCode {
    match command {
        InviteCommand::Create { email, note, at } => run(at.json, async {
            let body = json!({ "email": email, "note": note });
            let made = at.server()?.call(Method::POST, INVITATIONS, Some(body)).await?;
            at.show(&made, |made| {
                let text = |member: &str| made[member].as_str().unwrap_or_default().to_owned();
                format!(
                    "{}\nid {}, works once, until {}; the link is not shown again\n",
                    text("link"),
                    text("id"),
                    text("expires_at")
                )
            });
            Ok(())
        }),
        InviteCommand::List { open, at } => run(at.json, async {
            let only = if open { "&state=open" } else { "" };
            let items = pages(&at.server()?, &format!("{INVITATIONS}?limit=500{only}")).await?;
            at.show(&json!({ "items": items }), |_| {
                let head = ["ID", "STATE", "UNTIL", "FOR", "NOTE"].map(str::to_owned);
                table(&std::iter::once(head).chain(items.iter().map(line)).collect::<Vec<_>>())
            });
            Ok(())
        }),
        InviteCommand::Revoke { id, at } => run(at.json, async {
            let id = id_part(&id)?;
            at.server()?.call(Method::DELETE, &format!("{INVITATIONS}/{id}"), None).await?;
            at.show(&json!({ "id": id, "state": "revoked" }), |_| format!("{id} is revoked\n"));
            Ok(())
        }),
    }
}

fn id_part(text: &str) -> anyhow::Result<&str> {
    let plain = !text.is_empty() && text.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-');
    if plain { Ok(text) } else { bail!("{text:?} is not the id of an invitation; see `hexa invite list`") }
}
