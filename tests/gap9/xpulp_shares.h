/* Shares of a layer, one after the other, for test_xpulp_shares.py: which of SHARES parts of its rows and of
 * its output channels a call makes. */
extern int row_share, channel_share;

static inline int __attribute__((unused)) share_row(int first, int end, int share) {
    return first + (end - first) * share / SHARES;
}

static inline int __attribute__((unused)) share_channel(int count, int multiple, int share) {
    const int channel = (count + multiple - 1) / multiple * share / SHARES * multiple;
    return channel < count ? channel : count;
}
