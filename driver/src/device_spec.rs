//! The device specification of UML's command line.
