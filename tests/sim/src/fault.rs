//! What a simulation can do wrong on purpose.

/// Rules that a simulation can break on purpose. Only tests do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Clients hear of a state before it is on the disk.
    BroadcastBeforeCommit,
    /// The caller has its answer before the commit.
    AnswerBeforeCommit,
    /// An ack is looked up among all devices' commands.
    ForeignAck,
    /// A second ack is stored like a first one.
    DuplicateAck,
    /// A reader sees what is only on its way to the disk.
    DirtyRead,
    /// The end of a former session unregisters the one that took over.
    TakeoverOffline,
    /// A command that timed out is still sent.
    SendAfterTimeout,
    /// A report answers every open command whose target it shows, also behind an unanswered one of the same relay, and
    /// the command's own acknowledgement then counts for nothing.
    ReportAnswersAny,
    /// A timed-out command is healed by whatever report shows its target, however late and whoever owns the device.
    HealTooLate,
    /// The row of a command is given up when its commit fails.
    PrimaryRowLost,
    /// What was asked for by a former owner is still sent.
    FormerOwnerSends,
    /// A key is free again when the result of its command could not be stored.
    KeyFreedUnproven,
}

impl Fault {
    /// Every rule that can be broken.
    pub const ALL: [Self; 12] = [
        Self::BroadcastBeforeCommit,
        Self::AnswerBeforeCommit,
        Self::ForeignAck,
        Self::DuplicateAck,
        Self::DirtyRead,
        Self::TakeoverOffline,
        Self::SendAfterTimeout,
        Self::ReportAnswersAny,
        Self::HealTooLate,
        Self::PrimaryRowLost,
        Self::FormerOwnerSends,
        Self::KeyFreedUnproven,
    ];

    /// The one of this name, as `Debug` writes it.
    ///
    /// # Errors
    /// The names that there are.
    pub fn parse(name: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|fault| format!("{fault:?}").eq_ignore_ascii_case(name));
        found.ok_or_else(|| format!("there is no such fault; there are {:?}", Self::ALL))
    }
}
