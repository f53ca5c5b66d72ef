//! Every provision verb (states.md §2) through `openstack baremetal`, unmodified from PyPI, against simulated machines:
//! where it leads, what it leaves on the disk, and how it is refused where it makes no sense.

mod aborts;
mod failures;
mod life;
mod others;
mod refusals;
mod rig;
mod steps;
