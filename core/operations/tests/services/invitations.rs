//! Invitations and the clock: none is good again, and none that is good is lost, whatever the clock does.

use std::sync::Arc;
use std::time::Duration;

use hexa_accounts::account::Registration;
use hexa_accounts::invitations::{self, InvitationRequest, LIFETIME};
use hexa_accounts::{ClientInfo, InvitationRow};
use hexa_model::{Clock, ErrorCode, InvitationState, ManualClock, Role, TimeMs};
use hexa_operations::{Operations, housekeeping};
use hexa_platform::idempotency::Key;
use hexa_platform::principal::Principal;
use secrecy::SecretString;

use crate::rig::{House, PlainDriver, sign_up};

const DAY_MS: i64 = 86_400_000;
const DAY: Duration = Duration::from_secs(86_400);

pub(crate) struct Office {
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) house: House,
    pub(crate) admin: Principal,
}

pub(crate) async fn office() -> Office {
    let clock = Arc::new(ManualClock::at(TimeMs(1_800_000_000_000)));
    let house = House::at(Arc::clone(&clock) as Arc<dyn Clock>, PlainDriver::default()).await;
    let user = house.user.account.key;
    let standing = house.services.store.change(move |tx| {
        Box::pin(async move {
            tx.set_standing(user, Role::Admin, true, TimeMs(0)).await?;
            Ok::<_, hexa_store::StoreError>(hexa_store::Changed::only(()))
        })
    });
    standing.await.unwrap();
    let auth = &house.services.accounts;
    let again =
        auth.login(Key::none(), "ann@example.com", "a long password".into(), ClientInfo::default()).await.unwrap();
    let token = secrecy::ExposeSecret::expose_secret(&again.access_token).to_owned();
    let other = house.other_process().await;
    let admin = other.accounts.authenticate(&token, None).await.unwrap();
    Office { clock, house, admin }
}

impl Office {
    pub(crate) async fn invite(&self) -> (InvitationRow, SecretString) {
        let services = &self.house.services;
        let made = invitations::create(services, &self.admin, Key::none(), InvitationRequest::default()).await.unwrap();
        (made.row, made.token)
    }
    async fn state(&self, of: &InvitationRow) -> Option<InvitationState> {
        let listed = invitations::list(&self.house.services, &self.admin, None, None, 100).await.unwrap();
        listed.rows.iter().find(|row| row.id == of.id).map(|row| row.state(listed.now))
    }
}

/// What becomes of a registration with it.
pub(crate) async fn register(services: &Operations, email: &str, token: &SecretString) -> Option<ErrorCode> {
    let new = Registration {
        email: email.into(),
        password: "a long password".into(),
        name: None,
        bootstrap_secret: None,
        invitation: Some(token.clone()),
    };
    services.accounts.register(Key::none(), new, ClientInfo::default()).await.err().map(|e| e.code)
}

pub(crate) const REFUSED: Option<ErrorCode> = Some(ErrorCode::InvalidInvitation);

#[tokio::test]
async fn an_invitation_is_good_for_seven_days_and_marked_as_over_then() {
    let office = office().await;
    let services = &office.house.services;
    let ((late, late_token), (just, just_token)) = (office.invite().await, office.invite().await);
    assert_eq!(late.expires_at, office.clock.now().plus(LIFETIME));
    office.clock.advance(LIFETIME - Duration::from_millis(1));
    assert_eq!(register(services, "just@example.com", &just_token).await, None);
    office.clock.advance(Duration::from_millis(1));
    assert_eq!(register(services, "late@example.com", &late_token).await, REFUSED);
    assert_eq!(office.state(&late).await, Some(InvitationState::Expired), "before it is marked");
    assert_eq!(invitations::expire(services).await.unwrap(), 1);
    assert_eq!(invitations::expire(services).await.unwrap(), 0);
    assert_eq!(office.state(&late).await, Some(InvitationState::Expired));
    assert_eq!(office.state(&just).await, Some(InvitationState::Used));
    // Kept for 30 days, to be looked at.
    office.clock.advance(29 * DAY);
    housekeeping::purge(services).await.unwrap();
    assert!(office.state(&late).await.is_some() && office.state(&just).await.is_some());
    office.clock.advance(2 * DAY);
    housekeeping::purge(services).await.unwrap();
    assert!(office.state(&late).await.is_none() && office.state(&just).await.is_none());
    assert_eq!(register(services, "late@example.com", &late_token).await, REFUSED);
}

#[tokio::test]
async fn no_step_of_the_clock_revives_an_invitation_that_is_over() {
    let office = office().await;
    let services = &office.house.services;
    let (row, token) = office.invite().await;
    office.clock.advance(LIFETIME);
    office.clock.jump(-6 * DAY_MS);
    // This process knows how much time has passed.
    assert_eq!(register(services, "a@example.com", &token).await, REFUSED);
    assert_eq!(office.state(&row).await, Some(InvitationState::Expired));
    office.clock.jump(6 * DAY_MS);
    assert_eq!(invitations::expire(services).await.unwrap(), 1);
    // The next one does not: it reads the mark.
    office.clock.jump(-6 * DAY_MS);
    let restarted = office.house.other_process().await;
    assert_eq!(register(&restarted, "b@example.com", &token).await, REFUSED);
    assert_eq!(office.state(&row).await, Some(InvitationState::Expired));
}

#[tokio::test]
async fn a_clock_that_was_ahead_for_a_moment_ends_no_invitation() {
    let office = office().await;
    let services = &office.house.services;
    let (row, token) = office.invite().await;
    // Soon after a start it would be the network that told the time.
    office.clock.advance(Duration::from_secs(300));
    office.clock.jump(400 * DAY_MS);
    assert_eq!(register(services, "early@example.com", &token).await, REFUSED, "while it may be over");
    assert_eq!(invitations::expire(services).await.unwrap(), 0);
    office.clock.jump(-400 * DAY_MS);
    assert_eq!(office.state(&row).await, Some(InvitationState::Open));
    assert_eq!(register(services, "early@example.com", &token).await, None);
}

#[tokio::test]
async fn only_an_active_admin_invites_and_only_while_they_are_one() {
    let office = office().await;
    let services = &office.house.services;
    let user = sign_up(services, "ben@example.com").await;
    let refused = invitations::create(services, &user, Key::none(), InvitationRequest::default()).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::Forbidden);
    let (row, token) = office.invite().await;
    // Whatever took the role away, and whether it knew of invitations or not.
    let maker = office.admin.account.key;
    let demoted = services.store.change(move |tx| {
        Box::pin(async move {
            tx.set_standing(maker, Role::User, true, TimeMs(0)).await?;
            Ok::<_, hexa_store::StoreError>(hexa_store::Changed::only(()))
        })
    });
    demoted.await.unwrap();
    assert_eq!(register(services, "guest@example.com", &token).await, REFUSED);
    assert_eq!(office.state(&row).await, Some(InvitationState::Revoked));
    let stale = invitations::create(services, &office.admin, Key::none(), InvitationRequest::default()).await;
    assert_eq!(stale.unwrap_err().code, ErrorCode::InvalidToken, "compared in the transaction");
}
