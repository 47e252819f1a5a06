//! Operators: the wrapper round a transform.
