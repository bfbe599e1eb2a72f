//! Takeover, ack, deadline and submit under every order that the locks allow.
//!
//! Production locks with `parking_lot` and wakes with tokio's `Notify`, which the scheduler of these tests cannot see.
//! [`Device`] is the same protocol on locks that it can: the real [`Machine`], its two halves and the session pointer
//! each behind a lock, and the steps of `device/registry.rs` (`connect`, `disconnect`), `command/path.rs` (`enqueue`,
//! `wait`, `persist`, `publish`) and `device/actor.rs` (`encode_queued`) in their order. Whoever changes the order
//! there changes it here. [`Order::Former`] keeps the one that lost wakes, to show that these tests find it.
//!
//! `HEXA_LONG=1` tries fifty times as many schedules; a failure prints the schedule to replay.

use std::ops::DerefMut;

use hexa_machine::{AckTaken, Commands, Machine, Token, Write, WriteCause};
use hexa_machine::{Change, RelayCache};
use hexa_model::audit::RelayStates;
use hexa_model::driver::{Ack, AckOutcome};
use hexa_model::{RelayState, TimeMs};
use shuttle::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use shuttle::sync::{Arc, Condvar, Mutex};
use shuttle::thread;

use crate::reference::{action, command, id};

/// In which order a submit takes place and session.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Order {
    /// As production has it: both under the session's lock, and a takeover wakes the new session.
    Current,
    /// The session is read first and woken after, and nobody wakes the new one.
    Former,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Stored,
    TimedOut,
    Offline,
}

/// One permit that is kept for whoever comes, as `Notify` keeps it.
#[derive(Default)]
struct Permit {
    given: Mutex<bool>,
    changed: Condvar,
}

impl Permit {
    fn give(&self) {
        *self.given.lock().unwrap() = true;
        self.changed.notify_one();
    }
    fn wait(&self) {
        let mut given = self.given.lock().unwrap();
        while !*given {
            given = self.changed.wait(given).unwrap();
        }
        *given = false;
    }
}

#[derive(Default)]
struct Session {
    wake: Permit,
    closing: AtomicBool,
}

impl Session {
    fn close(&self) {
        self.closing.store(true, Ordering::SeqCst);
        self.wake.give();
    }
    fn is_closing(&self) -> bool {
        self.closing.load(Ordering::SeqCst)
    }
}

/// Learns of a command's end.
#[derive(Clone, Default)]
struct Waiter(Arc<(Mutex<Vec<End>>, Permit)>);

impl Waiter {
    fn end(&self, end: End) {
        self.0.0.lock().unwrap().push(end);
        self.0.1.give();
    }
    fn wait(&self) -> End {
        self.0.1.wait();
        self.0.0.lock().unwrap()[0]
    }
    fn ends(&self) -> Vec<End> {
        self.0.0.lock().unwrap().clone()
    }
}

struct Device {
    order: Order,
    session: Mutex<Option<Arc<Session>>>,
    commands: Mutex<Commands<Waiter>>,
    states: Mutex<RelayCache>,
    /// What was handed to the socket.
    sent: Mutex<Vec<u32>>,
    /// `true` for online, `false` for offline.
    events: Mutex<Vec<bool>>,
    heard: Mutex<Vec<u64>>,
    disk: Mutex<u64>,
    follow_ups: AtomicUsize,
}

impl Machine<Waiter> for Device {
    fn relay_count(&self) -> u16 {
        1
    }
    fn commands(&self) -> impl DerefMut<Target = Commands<Waiter>> {
        self.commands.lock().unwrap()
    }
    fn states(&self) -> impl DerefMut<Target = RelayCache> {
        self.states.lock().unwrap()
    }
}

impl Device {
    fn new(order: Order) -> Arc<Self> {
        Arc::new(Self {
            order,
            session: Mutex::default(),
            commands: Mutex::default(),
            states: Mutex::new(RelayCache::new(1, &[])),
            sent: Mutex::default(),
            events: Mutex::default(),
            heard: Mutex::default(),
            disk: Mutex::default(),
            follow_ups: AtomicUsize::new(0),
        })
    }

    /// The steps of `Registry::connect`, in their order.
    fn connect(&self) -> Arc<Session> {
        let session = Arc::new(Session::default());
        let mut current = self.session.lock().unwrap();
        if let Some(former) = current.replace(Arc::clone(&session)) {
            former.close();
            if self.order == Order::Current {
                session.wake.give();
            }
        } else {
            self.events.lock().unwrap().push(true);
        }
        session
    }

    /// The steps of `Registry::disconnect`, in their order.
    fn disconnect(&self, session: &Arc<Session>) {
        let mut current = self.session.lock().unwrap();
        if !current.as_ref().is_some_and(|c| Arc::ptr_eq(c, session)) {
            return;
        }
        *current = None;
        let unsent = self.commands().cancel(false);
        for command in unsent {
            command.waiter.end(End::Offline);
        }
        self.events.lock().unwrap().push(false);
    }

    /// The steps of `path::enqueue`, in their order.
    fn enqueue(&self, n: u32) -> Waiter {
        let waiter = Waiter::default();
        let new = command(n, action(Some(0), true));
        let current = self.session.lock().unwrap();
        let Some(session) = current.clone() else {
            waiter.end(End::Offline);
            return waiter;
        };
        let held = (self.order == Order::Current).then_some(current);
        assert!(self.commands().accept(new, waiter.clone()).is_ok());
        session.wake.give();
        drop(held);
        waiter
    }

    /// The task of a session: `ws/device.rs` and `DeviceActor::encode_queued`. `answer` is the device at the other end.
    fn serve(&self, session: &Arc<Session>, answer: impl Fn(&Self, u32)) {
        let mut out = Vec::new();
        loop {
            if session.is_closing() {
                break;
            }
            for n in out.drain(..) {
                self.sent.lock().unwrap().push(n);
                answer(self, n);
            }
            session.wake.wait();
            if session.is_closing() {
                continue;
            }
            let queued: Vec<_> = self.commands().queued().map(|q| q.id).collect();
            for id in queued {
                if self.commands().written(id, Token::CommandId) {
                    out.push((0..9).find(|n| crate::reference::id(*n) == id).unwrap());
                }
            }
        }
        self.disconnect(session);
        // Written, and closed before the wire: these end by their deadline.
        for n in out {
            self.deadline(n);
        }
    }

    /// The device's answer arrives, on whichever socket.
    fn ack(&self, n: u32) -> AckTaken {
        let ack = Ack { token: id(n).to_string(), outcome: AckOutcome::Executed, relays: Vec::new() };
        let mut write = None;
        let taken = self.acknowledge(&ack, |w| write = Some(self.persist(w)));
        if let Some((write, relays)) = write {
            self.stored(write, relays);
        }
        taken
    }

    /// The commit, in the order of the projection: the writer's queue is entered under the lock of the states.
    fn persist(&self, write: Write<Waiter>) -> (Write<Waiter>, RelayStates) {
        let mut disk = self.disk.lock().unwrap();
        let relays = write.sets.iter().map(|set| {
            *disk += 1;
            RelayState { index: set.index, on: set.on, version: *disk, updated_at: TimeMs(0) }
        });
        let relays = relays.collect();
        (write, relays)
    }

    /// The writer's completion, then the path or the session that waited for it.
    fn stored(&self, write: Write<Waiter>, relays: RelayStates) {
        let (source, command) = write.by();
        self.states().record_commit(Change { source, command, relays, at: TimeMs(0) });
        self.publish_committed((&write.sets, write.number), true, |change| {
            self.heard.lock().unwrap().extend(change.relays.iter().map(|r| r.version));
        });
        match write.cause {
            WriteCause::Answer(command) => command.waiter.end(End::Stored),
            WriteCause::Late(_) => {
                self.follow_ups.fetch_add(1, Ordering::SeqCst);
            }
            WriteCause::Report(_) | WriteCause::Correction => panic!("nothing is reported here"),
        }
    }

    /// `path::wait`, when the time is up.
    fn deadline(&self, n: u32) {
        let ended = self.commands().time_out(id(n));
        if let Some(command) = ended {
            command.waiter.end(End::TimedOut);
        }
    }

    /// I15: online and offline take turns, and the last one is what is.
    fn check_events(&self) {
        let events = self.events.lock().unwrap();
        assert!(events.iter().enumerate().all(|(i, online)| *online == (i % 2 == 0)), "I15: {events:?}");
        let online = self.session.lock().unwrap().is_some();
        assert_eq!(events.last().copied().unwrap_or(false), online, "I15");
    }
}

fn schedules(usual: usize) -> usize {
    if std::env::var_os("HEXA_LONG").is_some() { usual * 50 } else { usual }
}

fn explore(usual: usize, race: impl Fn() + Send + Sync + Copy + 'static) {
    shuttle::check_random(race, schedules(usual));
    shuttle::check_pct(race, schedules(usual), 3);
}

/// Two clients submit while a second session takes over; the device answers whatever reaches it.
fn takeover(order: Order) {
    let device = Device::new(order);
    let first = device.connect();
    let answer = |device: &Device, n| assert_ne!(device.ack(n), AckTaken::Unknown);
    let spawn = |session: Arc<Session>| {
        let device = Arc::clone(&device);
        thread::spawn(move || device.serve(&session, answer))
    };
    let mut tasks = vec![spawn(first)];
    let clients: Vec<_> = (0..2)
        .map(|n| {
            let device = Arc::clone(&device);
            // Waits for its end: a wake that is lost is a deadlock here.
            thread::spawn(move || {
                let waiter = device.enqueue(n);
                waiter.wait();
                waiter
            })
        })
        .collect();
    let second = device.connect();
    tasks.push(spawn(Arc::clone(&second)));
    let waiters: Vec<_> = clients.into_iter().map(|c| c.join().unwrap()).collect();
    assert!(device.session.lock().unwrap().as_ref().is_some_and(|c| Arc::ptr_eq(c, &second)), "I15: the newest");
    second.close();
    for task in tasks {
        task.join().unwrap();
    }
    for (n, waiter) in waiters.iter().enumerate() {
        let sent = device.sent.lock().unwrap().iter().filter(|s| **s == n as u32).count();
        let ends = waiter.ends();
        assert_eq!(ends.len(), 1, "exactly one end");
        assert_eq!(sent, usize::from(ends[0] == End::Stored), "sent at most once, answered if sent: {ends:?}");
        assert_ne!(ends[0], End::Offline, "a takeover is no disconnect");
    }
    device.check_events();
}

#[test]
fn a_takeover_loses_no_command_and_sends_none_twice() {
    explore(1_500, || takeover(Order::Current));
}

#[test]
#[should_panic(expected = "deadlock")]
fn the_former_order_lost_wakes() {
    explore(1_500, || takeover(Order::Former));
}

#[test]
fn an_answer_its_double_and_the_deadline_make_one_end() {
    explore(1_500, || {
        let device = Device::new(Order::Current);
        let session = device.connect();
        let waiter = device.enqueue(0);
        assert!(device.commands().written(id(0), Token::CommandId));
        let acks: Vec<_> = (0..2)
            .map(|_| {
                let device = Arc::clone(&device);
                thread::spawn(move || device.ack(0))
            })
            .collect();
        let late = Arc::clone(&device);
        let deadline = thread::spawn(move || late.deadline(0));
        let end = waiter.wait();
        let mut taken: Vec<_> = acks.into_iter().map(|a| a.join().unwrap()).collect();
        deadline.join().unwrap();
        assert_eq!(waiter.ends(), [end], "exactly one end");
        taken.sort_by_key(|t| *t == AckTaken::Duplicate);
        let first = if end == End::TimedOut { AckTaken::Late } else { AckTaken::Open };
        assert_eq!(taken, [first, AckTaken::Duplicate], "I8");
        assert_eq!(device.follow_ups.load(Ordering::SeqCst), usize::from(end == End::TimedOut), "I2");
        assert_eq!(*device.heard.lock().unwrap(), [1], "one change");
        device.disconnect(&session);
        device.check_events();
    });
}

#[test]
fn a_disconnect_leaves_no_command_waiting() {
    explore(1_500, || {
        let device = Device::new(Order::Current);
        let session = device.connect();
        let client = {
            let device = Arc::clone(&device);
            thread::spawn(move || device.enqueue(0))
        };
        let task = {
            let (device, session) = (Arc::clone(&device), Arc::clone(&session));
            thread::spawn(move || device.serve(&session, |device, n| assert_eq!(device.ack(n), AckTaken::Open)))
        };
        session.close();
        // An end without a deadline: sent and answered, or offline.
        let waiter = client.join().unwrap();
        waiter.wait();
        task.join().unwrap();
        assert_eq!(waiter.ends().len(), 1);
        device.check_events();
    });
}

#[test]
fn of_many_sessions_one_is_current() {
    explore(1_000, || {
        let device = Device::new(Order::Current);
        let tasks: Vec<_> = (0..3)
            .map(|_| {
                let device = Arc::clone(&device);
                thread::spawn(move || {
                    let session = device.connect();
                    device.disconnect(&session);
                })
            })
            .collect();
        let last = device.connect();
        for task in tasks {
            task.join().unwrap();
        }
        let current = device.session.lock().unwrap().clone();
        assert!(current.is_none_or(|c| Arc::ptr_eq(&c, &last)), "I15: only the last one stays");
        device.check_events();
    });
}

#[test]
fn whoever_wakes_first_tells_the_changes_in_order() {
    explore(1_000, || {
        let device = Device::new(Order::Current);
        let _session = device.connect();
        let waiters: Vec<_> = (0..3).map(|n| device.enqueue(n)).collect();
        let tasks: Vec<_> = (0..3)
            .map(|n| {
                assert!(device.commands().written(id(n), Token::CommandId));
                let device = Arc::clone(&device);
                thread::spawn(move || assert_eq!(device.ack(n), AckTaken::Open))
            })
            .collect();
        for task in tasks {
            task.join().unwrap();
        }
        let heard = device.heard.lock().unwrap().clone();
        // `record_commit` comes from one thread in production, so here only what was told is compared: never downwards.
        assert!(heard.is_sorted(), "I10: {heard:?}");
        assert_eq!(heard.last(), Some(&3), "I10: the highest is told");
        assert!(waiters.iter().all(|w| w.ends() == [End::Stored]));
    });
}
