//! What the generator takes from the real events: gaps between arrivals, feed delay, mix of actions, distance of
//! prices from the middle, volumes. Measured on the middle of the capture, its snapshot and its end left out.

/// Quantiles at equal steps; the last entry is the 99.9th percentile (levels: cut at 60 ticks).
pub struct Calibration {
    pub gap_ms: [f64; 33],
    pub delay_ms: [f64; 33],
    /// Distance of a new order's price from the middle, in ticks.
    pub level_ticks: [f64; 33],
    pub volume: [f64; 33],
    pub created: f64,
    pub changed: f64,
}

impl Calibration {
    /// Of the gaps as they are drawn: straight lines between the quantiles.
    pub fn mean_gap_ms(&self) -> f64 {
        let steps = self.gap_ms.windows(2);
        steps.clone().map(|step| (step[0] + step[1]) / 2.0).sum::<f64>() / steps.len() as f64
    }
}

pub const BITSTAMP: Calibration = Calibration {
    gap_ms: [
        0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 1.0, 1.0,
        1.0, 9.0, 10.0, 11.0, 12.0, 13.0, 15.0, 22.0, 25.0, 34.0, 201.0,
    ],
    delay_ms: [
        62.0, 73.0, 75.0, 76.0, 77.0, 77.0, 78.0, 79.0, 79.0, 80.0, 80.0, 81.0, 81.0, 82.0, 82.0, 83.0, 83.0, 84.0,
        84.0, 85.0, 85.0, 86.0, 86.0, 87.0, 88.0, 88.0, 89.0, 90.0, 92.0, 94.0, 100.0, 119.0, 479.0,
    ],
    level_ticks: [
        0.0, 0.1, 0.2, 0.3, 0.5, 0.5, 0.7, 0.9, 1.0, 1.2, 1.3, 1.4, 1.6, 1.8, 2.0, 2.2, 2.4, 2.7, 3.0, 3.4, 3.8, 4.3,
        5.0, 5.8, 6.9, 8.4, 10.6, 13.6, 18.5, 25.6, 36.0, 50.0, 60.0,
    ],
    volume: [
        0.0001, 0.0012, 0.0029, 0.0128, 0.0322, 0.0389, 0.0478, 0.06, 0.06, 0.0638, 0.07, 0.07, 0.07, 0.07, 0.07, 0.07,
        0.07, 0.07, 0.075, 0.075, 0.075, 0.075, 0.075, 0.075, 0.075, 0.075, 0.0853, 0.15, 0.15, 0.15, 0.15, 0.3189,
        2.7777,
    ],
    created: 0.4996,
    changed: 0.0008,
};
