//! Jobs: spec, plan, life cycle, swaps.
