//! Up: messages become POSTs (contract rules U1 to U9).
