//! Who of several does what, without asking each other.

/// What `bidder` bids for `key`: whoever bids most has it (rendezvous hashing). All who know the same bidders agree,
/// keys are spread evenly over them, and when one comes or goes only its own keys move.
pub fn bid(key: u64, bidder: u64) -> u64 {
    mixed(key ^ mixed(bidder))
}

/// The finaliser of SplitMix64: every bit of the input changes half of the output's.
fn mixed(x: u64) -> u64 {
    let x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}
