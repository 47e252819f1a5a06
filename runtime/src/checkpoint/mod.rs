//! The changelog's formats: header, delta, chunks. Pure functions of bytes; no input or output.
