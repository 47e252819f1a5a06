//! Uploaded components as bytes, by digest.
