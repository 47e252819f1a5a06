//! Seeded random numbers whose sequence never changes: SplitMix64. A recorded seed means the same input for ever.

pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Below `bound`, which is not 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.draw()) * u128::from(bound)) >> 64) as u64
    }

    /// From 0 to 1, 1 left out.
    pub fn unit(&mut self) -> f64 {
        (self.draw() >> 11) as f64 / (1u64 << 53) as f64
    }

    pub fn chance(&mut self, probability: f64) -> bool {
        self.unit() < probability
    }

    /// From a distribution given by its quantiles at equal steps, straight lines between them.
    pub fn from_quantiles(&mut self, quantiles: &[f64]) -> f64 {
        let at = self.unit() * (quantiles.len() - 1) as f64;
        let (low, share) = (at as usize, at.fract());
        quantiles[low] + (quantiles[low + 1] - quantiles[low]) * share
    }
}
