//! Every image tool, with each of its host operations failing once: after that the image is the
//! old one or the new one, or `recover` makes it one of them; nothing is left behind that it does
//! not remove; and the tool begun again completes. A module a group of tools.

mod backing;
mod giving_back;
mod new_files;
mod recovering;
mod resizing;
mod story;
