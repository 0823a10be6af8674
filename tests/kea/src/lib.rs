//! Drives a real kea-dhcp4 with the hook loaded, for the tests in `tests/`.
