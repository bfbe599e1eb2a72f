use hexa_model::ManualClock;

use super::*;

const BEGIN: TimeMs = TimeMs(1_000_000);
const DAY_MS: i64 = 86_400_000;

fn guard(clock: &Arc<ManualClock>) -> ClockGuard {
    ClockGuard::new(Arc::clone(clock) as Arc<dyn Clock>)
}

/// Nobody doubted this time.
fn at(at: TimeMs) -> Noted {
    let kept = Kept { at, doubt: (Duration::ZERO, 0) };
    Noted { believed: kept, judged: kept, highest: at }
}

#[test]
fn a_start_long_after_the_last_row_removes_nothing_for_a_day() {
    let clock = Arc::new(ManualClock::at(BEGIN.plus(30 * DAY)));
    let start = |written| {
        let guard = guard(&clock);
        guard.was_written(written);
        guard
    };
    assert!(guard(&clock).trusted() && start(BEGIN.plus(29 * DAY)).trusted());
    let guard = start(BEGIN);
    assert!(!guard.trusted());
    clock.jump(-30 * DAY_MS);
    assert!(guard.trusted(), "it was wrong, and was set");
    clock.jump(30 * DAY_MS);
    assert!(!guard.trusted());
    clock.advance(DAY);
    assert!(guard.trusted(), "the machine was off for a month");
}

#[test]
fn a_clock_that_was_set_ahead_is_not_believed_until_it_is_right_again() {
    let clock = Arc::new(ManualClock::at(BEGIN));
    let guard = guard(&clock);
    assert!(guard.trusted());
    clock.advance(400 * DAY);
    assert!(guard.trusted(), "time that passed on both clocks is time");
    clock.jump(2 * DAY_MS);
    assert!(!guard.trusted());
    clock.jump(-2 * DAY_MS);
    assert!(guard.trusted());
}

#[test]
fn what_was_asked_for_an_hour_ago_is_an_hour_old_however_the_clock_is_set() {
    let clock = Arc::new(ManualClock::at(BEGIN));
    let now = guard(&clock);
    clock.advance(Duration::from_secs(3_600));
    let true_time = clock.now();
    for jump in [25 * 3_600_000, -3 * DAY_MS] {
        clock.jump(jump);
        assert!(now.earliest() <= true_time && true_time <= now.latest(), "{jump}");
        clock.jump(-jump);
    }
    assert_eq!((now.earliest(), now.latest()), (true_time, true_time));
    // A start two days ahead of what was written last.
    clock.jump(2 * DAY_MS);
    let started = guard(&clock);
    started.was_written(true_time);
    assert_eq!(started.earliest(), true_time);
}

#[test]
fn the_time_of_credentials_does_not_go_back_with_the_clock() {
    let clock = Arc::new(ManualClock::at(BEGIN));
    let guard = guard(&clock);
    clock.advance(BEGINNING);
    let begin = clock.now();
    // Ahead for a moment: judged by it then, and not any more when it is set right.
    clock.jump(23 * 3_600_000);
    assert_eq!(guard.latest(), begin.plus(23 * HOUR));
    clock.jump(-23 * 3_600_000);
    assert_eq!(guard.latest(), begin);
    // Ahead for an hour.
    clock.jump(3_600_000);
    guard.latest();
    clock.advance(HOUR);
    assert_eq!(guard.latest(), begin.plus(2 * HOUR));
    clock.jump(-2 * 3_600_000);
    clock.advance(Duration::from_secs(60));
    assert_eq!(guard.latest(), begin.plus(2 * HOUR + Duration::from_secs(60)), "it goes on with what passes");
    // Set back for good: believed after a day.
    clock.advance(DAY - Duration::from_secs(60));
    guard.latest();
    clock.advance(Duration::from_secs(60));
    assert_eq!(guard.latest(), clock.now());
    // Far ahead for a moment: whoever asks then is told so, and it leaves nothing behind.
    clock.jump(400 * DAY_MS);
    assert_eq!(guard.latest(), clock.now());
    clock.jump(-400 * DAY_MS);
    assert_eq!(guard.latest(), clock.now());
}

#[test]
fn a_start_goes_on_from_what_was_noted_or_from_a_later_clock() {
    let noted = BEGIN.plus(100 * DAY);
    for (start, latest) in [(BEGIN, noted), (noted.plus(DAY / 2), noted.plus(DAY / 2))] {
        let clock = Arc::new(ManualClock::at(start));
        let guard = guard(&clock);
        guard.was_running(at(noted));
        assert_eq!(guard.latest(), latest);
    }
}

#[test]
fn what_was_over_at_a_start_stays_over_when_the_clock_is_set_back() {
    let noted = BEGIN.plus(100 * DAY);
    let on = noted.plus(30 * DAY);
    // The machine was off for a month, or its clock is wrong: nothing is good again, and nothing is removed.
    let clock = Arc::new(ManualClock::at(on));
    let first = guard(&clock);
    first.was_running(at(noted));
    assert_eq!((first.latest(), first.trusted(), first.earliest()), (on, false, noted));
    clock.jump(-30 * DAY_MS);
    assert_eq!((first.latest(), first.trusted()), (on, true));
    assert_eq!(first.behind(), Some(30 * DAY));
    // Over the next start too, and until it has lasted for a day.
    let second = guard(&clock);
    second.was_running(Noted::parse(&first.noted().to_string()).unwrap());
    assert_eq!(second.latest(), on);
    clock.advance(DAY - HOUR);
    assert_eq!(second.latest(), on.plus(DAY - HOUR));
    let third = guard(&clock);
    third.was_running(Noted::parse(&second.noted().to_string()).unwrap());
    clock.advance(HOUR);
    assert_eq!((third.latest(), third.behind()), (clock.now(), None));
    // It has been on for a day, and is believed altogether.
    let clock = Arc::new(ManualClock::at(on));
    let fourth = guard(&clock);
    fourth.was_running(at(noted));
    assert_eq!(fourth.noted().believed.at, noted);
    clock.advance(DAY);
    assert_eq!(fourth.noted(), at(clock.now()));
}

#[test]
fn what_the_network_says_soon_after_a_start_is_the_start() {
    let noted = BEGIN.plus(100 * DAY);
    let clock = Arc::new(ManualClock::at(noted));
    let guard = guard(&clock);
    guard.was_running(at(noted));
    clock.advance(Duration::from_secs(60));
    clock.jump(10 * DAY_MS);
    let true_time = clock.now();
    assert_eq!(guard.latest(), true_time);
    clock.jump(-10 * DAY_MS);
    assert_eq!(guard.latest(), true_time);
}

#[test]
fn whoever_runs_the_server_can_say_that_the_clock_is_right() {
    let clock = Arc::new(ManualClock::at(BEGIN));
    let guard = guard(&clock);
    guard.is_right();
    assert_eq!((guard.noted(), guard.earliest(), guard.trusted()), (at(BEGIN), BEGIN, true));
}

#[test]
fn what_is_noted_is_read_as_it_was_written() {
    let noted = Noted {
        believed: Kept { at: BEGIN, doubt: (HOUR, -5) },
        judged: Kept { at: BEGIN.plus(DAY), doubt: (Duration::ZERO, 0) },
        highest: BEGIN.plus(HOUR),
    };
    assert_eq!(Noted::parse(&noted.to_string()), Some(noted));
    for before in ["1000000 0", "1000000 0 1000000 0"] {
        assert_eq!(Noted::parse(before), Some(at(BEGIN)), "as it was written before");
    }
    for other in ["", "1", "1 2 3", "1 2 3 x", "1 2 3 4 5", "1 2 3 4 5 6", "1 2 3 4 5 6 x", "1 2 3 4 5 6 7 8"] {
        assert_eq!(Noted::parse(other), None, "{other}");
    }
}

#[test]
fn a_machine_that_started_in_1970_works_again_a_day_after_its_clock_was_set() {
    let clock = Arc::new(ManualClock::at(TimeMs(0)));
    let (guard, true_time) = (guard(&clock), BEGIN.plus(20_000 * DAY));
    guard.was_running(at(true_time));
    assert_eq!((guard.latest(), guard.earliest()), (true_time, TimeMs(0)));
    clock.jump(true_time.0);
    assert!(guard.trusted());
    for _ in 0..2 {
        guard.earliest();
        clock.advance(DAY);
    }
    assert_eq!((guard.earliest(), guard.latest()), (clock.now(), clock.now()));
}

#[test]
fn a_new_server_believes_what_it_is_told_for_some_minutes() {
    let clock = Arc::new(ManualClock::at(BEGIN.plus(400 * DAY)));
    let guard = guard(&clock);
    guard.is_new();
    clock.jump(-399 * DAY_MS);
    assert_eq!(guard.latest(), clock.now());
    clock.advance(BEGINNING);
    assert_eq!(guard.latest(), clock.now());
    clock.jump(-DAY_MS);
    assert_eq!(guard.latest(), clock.now().plus(DAY));
}

#[test]
fn what_a_new_server_did_while_its_clock_was_behind_is_not_old_when_that_is_set() {
    let clock = Arc::new(ManualClock::at(BEGIN.plus(400 * DAY)));
    let guard = guard(&clock);
    guard.is_new();
    clock.jump(-2 * DAY_MS);
    let (ends, asked) = (guard.latest().plus(DAY), guard.earliest());
    clock.jump(2 * DAY_MS);
    assert!(guard.earliest() < ends && guard.earliest() == asked);
    for _ in 0..2 {
        clock.advance(DAY);
        guard.earliest();
    }
    assert!(guard.earliest() >= ends);
}

#[test]
fn a_doubt_goes_on_over_restarts_and_ends() {
    let (wrong, true_time) = (BEGIN.plus(4_000 * DAY), BEGIN.plus(DAY));
    let mut noted = at(wrong);
    for day in 0..3 {
        // Nine hours a day, which is never a day in one go.
        let clock = Arc::new(ManualClock::at(true_time.plus(day * DAY)));
        let guard = guard(&clock);
        guard.was_running(noted);
        clock.advance(DAY * 9 / 24);
        guard.latest();
        noted = Noted::parse(&guard.noted().to_string()).unwrap();
        assert_eq!(noted.judged.at < wrong, day == 2, "day {day}: {noted:?}");
    }
    assert_eq!((noted.believed, noted.judged.doubt), (noted.judged, (Duration::ZERO, 0)));
}

#[test]
fn what_took_a_day_is_a_day_old_however_the_clock_was_set_meanwhile() {
    let clock = Arc::new(ManualClock::at(BEGIN));
    let guard = guard(&clock);
    let asked = guard.earliest();
    // Ahead by twenty hours, which is believed at once by whoever judges credentials.
    clock.jump(20 * 3_600_000);
    for hour in 0..24 {
        assert!(guard.earliest() < asked.plus(DAY), "{hour}");
        clock.advance(DAY / 24);
    }
    assert!(guard.earliest() >= asked.plus(DAY));
}

fn returned(guard: &ClockGuard) -> bool {
    guard.look();
    guard.returned.swap(false, Ordering::AcqRel)
}

#[test]
fn what_was_made_ahead_is_known_as_soon_as_the_clock_is_back() {
    let clock = Arc::new(ManualClock::at(BEGIN));
    let running = guard(&clock);
    clock.advance(BEGINNING);
    for jump in [2 * 3_600_000, 400 * DAY_MS] {
        assert!(!returned(&running));
        clock.jump(jump);
        assert!(!returned(&running) && running.newest().0 > clock.now(), "nothing is known to be wrong yet");
        clock.jump(-jump);
        assert!(returned(&running));
        assert_eq!(running.newest(), (clock.now().plus(SLACK), clock.now()));
    }
    // At a start the clock was ahead: a day after it was set back.
    clock.jump(400 * DAY_MS);
    let started = guard(&clock);
    started.was_running(running.noted());
    clock.jump(-400 * DAY_MS);
    assert!(!returned(&started) && started.newest().0 > clock.now().plus(399 * DAY));
    clock.advance(DAY);
    assert!(returned(&started));
    assert_eq!(started.newest().0, clock.now().plus(SLACK));
}

#[test]
fn nothing_of_before_seems_to_be_made_ahead_while_the_clock_is_behind() {
    let clock = Arc::new(ManualClock::at(BEGIN.plus(20_000 * DAY)));
    let before = guard(&clock);
    clock.jump(-20_000 * DAY_MS);
    before.latest();
    clock.advance(DAY);
    let made_at = before.latest();
    assert!(returned(&before) && made_at == clock.now(), "it is believed after a day");
    let known = BEGIN.plus(20_001 * DAY);
    assert!(before.newest().0 >= known, "what was made before is not beyond it");
    let after = guard(&clock);
    after.was_running(before.noted());
    assert!(after.newest().0 >= known, "nor after a start");
    let vouched = guard(&clock);
    vouched.was_running(before.noted());
    vouched.is_right();
    assert_eq!(vouched.newest().0, clock.now().plus(SLACK), "unless somebody says that the clock is right");
}

/// As far as it has stayed, and not what came after it.
#[test]
fn what_is_believed_is_what_the_clock_has_been_off_by_all_along() {
    let (hours, minute) = (3_600_000, Duration::from_secs(60));
    let clock = Arc::new(ManualClock::at(BEGIN.plus(20_000 * DAY)));
    let running = guard(&clock);
    clock.advance(BEGINNING);
    let true_time = clock.now();
    // Half an hour ahead for nearly an hour, and then nearly a day ahead.
    clock.jump(hours / 2);
    running.latest();
    clock.advance(HOUR - minute);
    running.latest();
    clock.jump(22 * hours);
    running.latest();
    clock.advance(2 * minute);
    running.latest();
    clock.jump(-(22 * hours + hours / 2));
    assert_eq!(running.latest(), true_time.plus(HOUR + minute + HOUR / 2));
    // Behind by decades for nearly a day, and then by an hour: it is the hour that has lasted for a day.
    let (running, before) = (guard(&clock), clock.now());
    clock.jump(-before.0);
    running.latest();
    clock.advance(DAY - HOUR);
    running.latest();
    clock.jump(before.0 - hours);
    running.latest();
    clock.advance(HOUR - minute);
    assert_eq!(running.latest(), before.plus(DAY - minute));
    clock.advance(minute);
    assert_eq!((running.latest(), clock.now()), (before.plus(DAY - HOUR), before.plus(DAY - HOUR)));
}

/// A virtual machine that is paused every night is ahead by more every morning.
#[test]
fn a_clock_that_leaps_every_night_is_believed_in_the_end() {
    let clock = Arc::new(ManualClock::at(BEGIN));
    let running = guard(&clock);
    clock.advance(BEGINNING);
    clock.jump(60 * 3_600_000);
    for night in 0..2 {
        assert!(!running.trusted(), "{night}");
        for _ in 0..8 {
            clock.advance(2 * HOUR);
            running.trusted();
        }
        clock.jump(8 * 3_600_000);
    }
    assert!(running.trusted());
}

#[test]
fn a_doubt_does_not_go_on_with_another_clock_at_a_start() {
    let true_time = BEGIN.plus(20_000 * DAY);
    // Ahead for nearly a day, and then a start decades behind; and the other way round.
    for (first, second) in [(2 * DAY_MS, -true_time.0), (-true_time.0, 4_000 * DAY_MS)] {
        let clock = Arc::new(ManualClock::at(true_time));
        let before = guard(&clock);
        clock.advance(BEGINNING);
        clock.jump(first);
        before.latest();
        clock.advance(DAY - HOUR);
        before.latest();
        let known = before.noted();
        clock.jump(second - first);
        let after = guard(&clock);
        after.was_running(known);
        assert_eq!(after.trusted(), second < 0);
        clock.advance(2 * HOUR);
        assert_eq!(after.trusted(), second < 0, "nothing is removed");
        assert!(after.latest() >= true_time.plus(DAY), "nothing is good again");
    }
}

#[test]
fn a_start_in_1970_without_a_note_ends_nothing_that_was_made_before() {
    let (clock, written) = (Arc::new(ManualClock::at(TimeMs(0))), BEGIN.plus(20_000 * DAY));
    let guard = guard(&clock);
    guard.was_written(written);
    for _ in 0..2 {
        guard.latest();
        clock.advance(DAY);
    }
    assert_eq!(guard.latest(), clock.now());
    assert!(guard.newest().0 > written);
    assert!(guard.believed_ahead().is_some(), "and that is said");
}

#[test]
fn what_was_ever_believed_does_not_grow_with_every_start() {
    let clock = Arc::new(ManualClock::at(BEGIN));
    let mut noted = at(BEGIN);
    for _ in 0..100 {
        let guard = guard(&clock);
        guard.was_running(noted);
        guard.latest();
        noted = Noted::parse(&guard.noted().to_string()).unwrap();
    }
    assert!(noted.highest <= BEGIN.plus(NOTE_EVERY));
    // Without a note: the clock was ahead at the start, and was set back.
    clock.jump(400 * DAY_MS);
    let guard = guard(&clock);
    guard.was_written(BEGIN);
    clock.jump(-400 * DAY_MS);
    clock.advance(2 * DAY);
    guard.latest();
    clock.advance(DAY);
    guard.latest();
    assert_eq!(guard.newest().0, clock.now().plus(SLACK));
}
