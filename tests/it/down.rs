//! Down: events become messages (contract rules D1 to D8).
