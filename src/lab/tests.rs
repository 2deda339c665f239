//! The lab, asked over loopback.
