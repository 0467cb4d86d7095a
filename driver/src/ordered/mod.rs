//! The `ordered` driver.
