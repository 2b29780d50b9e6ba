//! The CRC32C of two pieces of bytes from those of each, without reading them.
//!
//! A CRC is the remainder of the bytes as a polynomial over GF(2). What follows multiplies it by x⁸ for each byte, so
//! the CRC of `a` and then `b` is that of `a` times x^(8·len(b)), plus that of `b` (as in zlib's `crc32_combine`).
//! The power is the product of the squares in a table, of which a length has few.

/// The polynomial of CRC32C, reflected: the highest power is the lowest bit.
const POLYNOMIAL: u32 = 0x82f6_3b78;

/// The polynomial 1.
const ONE: u32 = 1 << 31;

/// x^(2^n), for each n. The polynomial is that of x + 1 times one of degree 31 that is primitive, so the powers of x
/// repeat after 2^31 - 1, and these after 31.
const SQUARES: [u32; 31] = {
    let mut squares = [ONE >> 1; 31];
    let mut n = 1;
    while n < squares.len() {
        squares[n] = product(squares[n - 1], squares[n - 1]);
        n += 1;
    }
    squares
};

/// a·b modulo the polynomial.
const fn product(a: u32, mut b: u32) -> u32 {
    let mut sum = 0;
    let mut term = ONE;
    while term != 0 {
        if a & term != 0 {
            sum ^= b;
        }
        term >>= 1;
        b = (b >> 1) ^ if b & 1 != 0 { POLYNOMIAL } else { 0 };
    }
    sum
}

/// The CRC32C of bytes whose own is `crc`, followed by `len` bytes whose own is `next`.
pub fn join_crc(crc: u32, next: u32, len: u64) -> u32 {
    let mut power = ONE;
    let mut left = len;
    // x^8 is the third square.
    let mut n = 3;
    while left > 0 && crc != 0 {
        if left & 1 != 0 {
            power = product(SQUARES[n % SQUARES.len()], power);
        }
        left >>= 1;
        n += 1;
    }
    product(power, crc) ^ next
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_checksum_of_two_pieces_is_joined_from_theirs(
            a in proptest::collection::vec(any::<u8>(), 0..300),
            b in proptest::collection::vec(any::<u8>(), 0..300),
        ) {
            let whole = crc32c::crc32c(&[&a[..], &b[..]].concat());
            prop_assert_eq!(join_crc(crc32c::crc32c(&a), crc32c::crc32c(&b), b.len() as u64), whole);
        }

        #[test]
        fn long_pieces_are_joined_as_the_library_does_it(
            crc in any::<u32>(), next in any::<u32>(), len in any::<u64>()
        ) {
            let expected = crc32c::crc32c_combine(crc, next, usize::try_from(len).unwrap());
            prop_assert_eq!(join_crc(crc, next, len), expected);
        }
    }
}
