//! Who may speak to us.
