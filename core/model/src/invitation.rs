//! Invitations to make an account.

/// What an invitation is good for by now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InvitationState {
    /// Whoever has its link may make an account.
    Open,
    /// An account was made with it.
    Used,
    /// Nobody used it in time.
    Expired,
    /// An admin took it back, or whoever made it is no active admin any more.
    Revoked,
}

impl InvitationState {
    /// Every state, in the order of the variants.
    pub const ALL: [Self; 4] = [Self::Open, Self::Used, Self::Expired, Self::Revoked];

    /// As in the API and the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Used => "used",
            Self::Expired => "expired",
            Self::Revoked => "revoked",
        }
    }
    /// Reads what [`Self::as_str`] gives; none for any other text.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == text)
    }
}
