//! The one table of error codes (ADR 8): code, status, meaning. docs/API.md is generated from it.

macro_rules! error_codes {
    ($($variant:ident = $name:literal, $status:literal, $meaning:literal;)*) => {
        /// Every code that a reply can carry.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum ErrorCode {
            $(#[doc = $meaning] $variant,)*
        }
        impl ErrorCode {
            /// Every code, in table order.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];
            /// The name in the body.
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }
            /// The HTTP status that goes with it.
            pub fn status(self) -> u16 {
                match self { $(Self::$variant => $status,)* }
            }
            /// The code that has this name; none when there is no such code.
            pub fn parse(text: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|code| code.name() == text)
            }
            /// What it means, for the documentation.
            pub fn meaning(self) -> &'static str {
                match self { $(Self::$variant => $meaning,)* }
            }
        }
    };
}

error_codes! {
    ValidationError = "validation_error", 400, "The request is malformed or a field has a value that is not allowed.";
    InvalidCredentials = "invalid_credentials", 401, "E-mail or password is wrong.";
    InvalidToken = "invalid_token", 401, "The access, refresh, device or bootstrap token is missing, wrong or expired.";
    RefreshTokenReused = "refresh_token_reused", 401, "A spent refresh token came again; its whole family is revoked.";
    InvalidProvisionKey = "invalid_provision_key", 401, "The provisioning key is missing or wrong.";
    AccountDisabled = "account_disabled", 401, "The account is deactivated.";
    Forbidden = "forbidden", 403, "The role does not allow this.";
    InsufficientScope = "insufficient_scope", 403, "The access token was not given the scope that this needs.";
    RegistrationClosed = "registration_closed", 403, "Nobody may make an account here; see REGISTRATION.";
    InvalidInvitation = "invalid_invitation", 403, "An invitation is needed that is good, and none was given: it may be missing, used, over, taken back, or for another e-mail.";
    OriginNotAllowed = "origin_not_allowed", 403, "The Origin may not do this here: it is not this server, or not a listed one.";
    NotFound = "not_found", 404, "No such object, or not yours.";
    MethodNotAllowed = "method_not_allowed", 405, "The route exists, but not with this method.";
    RequestTimeout = "request_timeout", 408, "The request did not arrive in time.";
    LastAdmin = "last_admin", 409, "There must be an active admin; make another one first.";
    EmailTaken = "email_taken", 409, "An account with this e-mail exists.";
    AlreadyClaimed = "already_claimed", 409, "The device has an owner.";
    AlreadyProvisioned = "already_provisioned", 409, "A device with this serial exists and the old token was not proven.";
    SetByConfiguration = "set_by_configuration", 409, "The server's configuration decides this; change it there.";
    IdempotencyConflict = "idempotency_conflict", 409, "The idempotency key was used for another request.";
    IdempotencyInProgress = "idempotency_in_progress", 409, "A request with this idempotency key is under way; see Retry-After.";
    DeviceNotReady = "device_not_ready", 409, "The device or its driver is not ready for this yet.";
    DeviceOffline = "device_offline", 409, "The device is not connected; nothing was sent.";
    PreconditionFailed = "precondition_failed", 412, "If-Match or If-None-Match does not fit what is stored; nothing was changed.";
    PayloadTooLarge = "payload_too_large", 413, "The body is larger than allowed.";
    UnsupportedMediaType = "unsupported_media_type", 415, "The body must be application/json.";
    UnsupportedCommand = "unsupported_command", 422, "The device cannot do this.";
    HttpsRequired = "https_required", 426, "This server speaks HTTPS only.";
    RateLimited = "rate_limited", 429, "Too many requests; see Retry-After.";
    DeviceBusy = "device_busy", 429, "The device has as many open commands as it may have.";
    HeadersTooLarge = "headers_too_large", 431, "The request headers are larger than allowed.";
    InternalError = "internal_error", 500, "A fault of the server; the request id finds it in the log.";
    DriverFault = "driver_fault", 502, "The device's driver failed; nothing was sent unless the details say so.";
    DeviceRejected = "device_rejected", 502, "The device refused the command.";
    DeviceStateMismatch = "device_state_mismatch", 502, "The device acknowledged another state than asked for; the reported one is stored.";
    Busy = "busy", 503, "A bounded queue is full, or the request was not done within 30 s, which tells nothing of its outcome; see Retry-After.";
    StorageUnavailable = "storage_unavailable", 503, "The database did not accept the write.";
    DriverUnavailable = "driver_unavailable", 503, "No driver serves this device class at the moment.";
    ShuttingDown = "shutting_down", 503, "The server is stopping; nothing was sent.";
    DeviceTimeout = "device_timeout", 504, "No acknowledgement in time: the outcome is unknown until the device reports.";
}

impl serde::Serialize for ErrorCode {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(self.name())
    }
}

impl<'de> serde::Deserialize<'de> for ErrorCode {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let name = <std::borrow::Cow<'de, str>>::deserialize(from)?;
        Self::parse(&name).ok_or_else(|| serde::de::Error::custom(format!("{name:?} is no error code")))
    }
}

#[cfg(test)]
mod tests {
    use super::ErrorCode;

    #[test]
    fn names_are_unique_and_snake_case() {
        let mut names: Vec<_> = ErrorCode::ALL.iter().map(|c| c.name()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), ErrorCode::ALL.len());
        assert!(names.iter().all(|n| n.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')));
    }
}
