//! Chance that replays: SplitMix64, a stream for each purpose of each device.

use std::time::Duration;

/// What a stream of chance is for; streams of one device do not disturb each other.
#[derive(Clone, Copy, Debug)]
pub(super) enum Stream {
    /// The fate of commands.
    Faults = 1,
    /// Which button is pressed.
    Inputs = 2,
    /// When the connection is given up and made again.
    Link = 3,
    /// When buttons are pressed.
    InputTimes = 4,
}

/// SplitMix64 (Steele, Lea, Flood 2014): small, fast, and good enough for dice.
#[derive(Clone, Debug)]
pub(super) struct Rng(u64);

const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

impl Rng {
    /// The same for the same seed, device and stream.
    pub(super) fn new(seed: u64, device: usize, stream: Stream) -> Self {
        let place = (device as u64).wrapping_mul(8).wrapping_add(stream as u64);
        Self(mix(seed ^ mix(place.wrapping_mul(GOLDEN))))
    }
    /// The next number, from the whole range.
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(GOLDEN);
        mix(self.0)
    }
    /// 0 to `limit` - 1; 0 for a limit of 0. The bias is below 2^-32 for the small limits used here.
    pub(super) fn below(&mut self, limit: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(limit)) >> 64) as u64
    }
    /// True in `percent` of 100 cases.
    pub(super) fn percent(&mut self, percent: u8) -> bool {
        self.below(100) < u64::from(percent)
    }
    /// Between nothing and `most`.
    pub(super) fn up_to(&mut self, most: Duration) -> Duration {
        Duration::from_micros(self.below(most.as_micros() as u64 + 1))
    }
    /// Half to one and a half of `mean`, so that a fleet does not act in step.
    pub(super) fn around(&mut self, mean: Duration) -> Duration {
        mean / 2 + self.up_to(mean)
    }
}

#[cfg(test)]
mod tests {
    use super::{Rng, Stream};

    #[test]
    fn a_stream_replays_and_differs_from_every_other() {
        let draw = |seed, device, stream| {
            let mut rng = Rng::new(seed, device, stream);
            [rng.next(), rng.next(), rng.next()]
        };
        let one = draw(7, 0, Stream::Faults);
        assert_eq!(one, draw(7, 0, Stream::Faults));
        assert_ne!(one, draw(8, 0, Stream::Faults));
        assert_ne!(one, draw(7, 1, Stream::Faults));
        assert_ne!(one, draw(7, 0, Stream::Inputs));
    }

    #[test]
    fn percentages_come_out_about_right_and_the_ends_exactly() {
        let mut rng = Rng::new(1, 1, Stream::Faults);
        let hits = (0..10_000).filter(|_| rng.percent(30)).count();
        assert!((2_800..3_200).contains(&hits), "{hits}");
        assert!((0..1000).all(|_| rng.percent(100) && !rng.percent(0)));
        assert!((0..1000).all(|_| rng.below(3) < 3));
        assert_eq!(rng.below(0), 0);
    }
}
