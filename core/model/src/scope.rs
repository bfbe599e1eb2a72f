//! What a personal access token may be used for. A session may do all that its account may.

/// One right of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scope {
    /// See devices, their states and history, and hear of them over the client socket.
    DevicesRead,
    /// Claim, rename, release, share devices, rotate their tokens.
    DevicesWrite,
    /// Switch relays of the devices that the account may control.
    RelaysWrite,
    /// Read and write the account's preferences.
    Preferences,
    /// Whatever the account may do as an admin.
    Admin,
}

impl Scope {
    /// Every scope, in the order of the documentation.
    pub const ALL: [Self; 5] =
        [Self::DevicesRead, Self::DevicesWrite, Self::RelaysWrite, Self::Preferences, Self::Admin];

    /// The name in requests, answers and the store.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::DevicesRead => "devices:read",
            Self::DevicesWrite => "devices:write",
            Self::RelaysWrite => "relays:write",
            Self::Preferences => "preferences",
            Self::Admin => "admin:*",
        }
    }
    /// Reads what [`Self::as_str`] gives; none for any other text.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|s| s.as_str() == text)
    }
}

/// A set of them.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Scopes(u8);

impl Scopes {
    /// The set that holds every scope.
    pub const ALL: Self = Self((1 << Scope::ALL.len()) - 1);

    /// The set of these scopes; repeated ones count once.
    pub fn of(scopes: impl IntoIterator<Item = Scope>) -> Self {
        Self(scopes.into_iter().fold(0, |set, scope| set | 1 << scope as u8))
    }
    /// Whether it holds this one.
    pub fn has(self, scope: Scope) -> bool {
        self.0 & (1 << scope as u8) != 0
    }
    /// Those that it holds.
    pub fn iter(self) -> impl Iterator<Item = Scope> {
        Scope::ALL.into_iter().filter(move |s| self.has(*s))
    }
    /// As stored: the names, separated by a space.
    pub fn to_text(self) -> String {
        self.iter().map(Scope::as_str).collect::<Vec<_>>().join(" ")
    }
    /// Reads what is stored; an unknown name is no right.
    pub fn parse(text: &str) -> Self {
        Self::of(text.split(' ').filter_map(Scope::parse))
    }
}

impl std::fmt::Debug for Scopes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.to_text())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_is_read_as_it_was_written() {
        assert_eq!(Scopes::ALL, Scopes::of(Scope::ALL));
        let some = Scopes::of([Scope::RelaysWrite, Scope::Admin]);
        assert_eq!(some.to_text(), "relays:write admin:*");
        assert_eq!(Scopes::parse(&some.to_text()), some);
        assert!(some.has(Scope::Admin) && !some.has(Scope::DevicesRead));
        assert_eq!(Scopes::parse("devices:explode nothing"), Scopes::of([]));
        assert_eq!(Scopes::parse("").to_text(), "");
    }
}
