package io.github.tailorkv.kernels;

/**
 * Where every number of a block of 64 tokens lies. All lengths and offsets are in bytes.
 *
 * <p>Keys and values of one KV head are kept in blocks of {@value #BLOCK} tokens. As F32 a block is a pair of tiles: the
 * key tile is {@code float[headSize][64]}, channel by channel, because a score sums over channels and a vector register
 * can then hold the scores of neighbouring tokens; the value tile is {@code float[64][headSize]}, token by token, because
 * the output sums over tokens and a register holds neighbouring channels. Packed blocks keep the same two orders, so
 * that the same loops run over codes.
 *
 * <p><em>Rows of codes.</em> Codes of 8, 4 and 2 bits come in units of 16 bytes that hold 16, 32 and 64 elements.
 * Element e of a unit sits in byte {@code e % 16} at bit {@code bits * (e / 16)}: one load of 16 bytes, widened to 16
 * lanes once, gives sixteen neighbouring elements for each shift, without any shuffle. Codes of 1 bit form a plain
 * little-endian bit string, which loads as a lane mask. Rows are padded to a whole unit (1 bit: 8 bytes) of zeros.
 *
 * <p><em>A packed key block</em> has one row of 64 codes per channel, then the scales of all channels (f16), then their
 * zero points (f16); the quantization group is the 64 tokens of a channel. <em>A packed value block</em> has one row of
 * {@code headSize} codes per token, then {@code f16 scale[64][groups]}, then {@code f16 zero[64][groups]}; the group is
 * 64 channels of a token, the last may be shorter. An element is {@code zero + scale * code}.
 *
 * <p><em>A progressive block</em> splits codes of 8 bits: the high nibbles form a packed block of 4 bits, whose f16
 * fields hold the scale s and zero point z of the 8-bit codes; the low nibbles of a token form a <em>record</em> of two
 * 4-bit rows of {@code headSize} channels, key before value. With both halves an element is
 * {@code z + s * (16 * high + low)}; with the high half alone it is {@code (z + 7.5 * s) + 16 * s * high}, the middle of
 * what it may be.
 *
 * <p><em>An index panel</em> holds channels of the keys of {@value #PANEL} blocks, for reading a few of them from all: one row
 * of 64 codes per channel and block, channel by channel and a cache line that nothing is in behind each channel, then
 * {@code f16 scale[channels][64]}, then {@code f16 zero[channels][64]}; codes of 2, 4 or 8 bits. Without the empty line,
 * the codes of a block would lie a power of two apart from channel to channel, and all in the same few sets of a cache.
 *
 * <p><em>A token record</em> holds one token of one head so that reading it back touches few cache lines and one page:
 * the codes of its key, those of its value, then the parameters of both, each {@code f16 scale[groups]} and
 * {@code f16 zero[groups]} for groups of 64 channels. With 16 bits the elements are BF16 and there are no parameters.
 */
public final class BlockLayout {

    /** Tokens in a block. */
    public static final int BLOCK = 64;

    /** Blocks in an index panel. */
    public static final int PANEL = 64;

    /** Channels of a token that share a scale and a zero point in value blocks. */
    public static final int GROUP = 64;

    /** Bytes of a cache line. */
    static final int LINE = 64;

    static final int FLOAT = Float.BYTES;
    static final int HALF = Short.BYTES;

    /** Bytes in a unit of codes. */
    static final int UNIT = 16;

    private BlockLayout() {}

    /** Returns {@code bits}, or throws if codes of that many bits do not exist. */
    public static int requireBits(int bits) {
        if (bits != 1 && bits != 2 && bits != 4 && bits != 8) {
            throw new IllegalArgumentException(bits + " bits per code: only 1, 2, 4 and 8 exist");
        }
        return bits;
    }

    /** Bytes of a row of {@code elements} codes. */
    public static int rowBytes(int bits, int elements) {
        requireBits(bits);
        if (bits == 1) {
            return (elements + 63) / 64 * 8;
        }
        int elementsPerUnit = UNIT * 8 / bits;
        return (elements + elementsPerUnit - 1) / elementsPerUnit * UNIT;
    }

    /** Byte of its row that holds the code of an element. */
    public static int codeByte(int bits, int element) {
        if (bits == 1) {
            return element / 8;
        }
        int elementsPerUnit = UNIT * 8 / bits;
        return element / elementsPerUnit * UNIT + element % UNIT;
    }

    /** Lowest bit, within {@link #codeByte}, of the code of an element. */
    public static int codeShift(int bits, int element) {
        if (bits == 1) {
            return element % 8;
        }
        int elementsPerUnit = UNIT * 8 / bits;
        return element % elementsPerUnit / UNIT * bits;
    }

    /** Largest code of {@code bits} bits. */
    public static int maxCode(int bits) {
        return (1 << bits) - 1;
    }

    /** Groups of channels in one token of a value block. */
    public static int groups(int headSize) {
        return (headSize + GROUP - 1) / GROUP;
    }

    /** Bytes of an F32 key tile. */
    public static int keyTileBytes(int headSize) {
        return headSize * BLOCK * FLOAT;
    }

    /** Bytes of an F32 value tile. */
    public static int valueTileBytes(int headSize) {
        return BLOCK * headSize * FLOAT;
    }

    /** Offset of the scales in a packed key block, {@code f16[headSize]}. */
    public static int keyScales(int bits, int headSize) {
        return headSize * rowBytes(bits, BLOCK);
    }

    /** Offset of the zero points in a packed key block, {@code f16[headSize]}. */
    public static int keyZeros(int bits, int headSize) {
        return keyScales(bits, headSize) + headSize * HALF;
    }

    /** Bytes of a packed key block. */
    public static int packedKeyBytes(int bits, int headSize) {
        return keyZeros(bits, headSize) + headSize * HALF;
    }

    /** Offset of the scales in a packed value block, {@code f16[64][groups]}. */
    public static int valueScales(int bits, int headSize) {
        return BLOCK * rowBytes(bits, headSize);
    }

    /** Offset of the zero points in a packed value block, {@code f16[64][groups]}. */
    public static int valueZeros(int bits, int headSize) {
        return valueScales(bits, headSize) + BLOCK * groups(headSize) * HALF;
    }

    /** Bytes of a packed value block. */
    public static int packedValueBytes(int bits, int headSize) {
        return valueZeros(bits, headSize) + BLOCK * groups(headSize) * HALF;
    }

    /** Bytes of the low nibbles of one token of a progressive block: a key row, then a value row. */
    public static int lowRecordBytes(int headSize) {
        return 2 * rowBytes(4, headSize);
    }

    /** Offset of the value row in the low nibbles of a token. */
    public static int lowRecordValue(int headSize) {
        return rowBytes(4, headSize);
    }

    /** Bytes from the codes of one channel of an index panel to those of the next. */
    public static int panelStride(int bits) {
        return PANEL * rowBytes(bits, BLOCK) + LINE;
    }

    /** Offset of the scales in an index panel of some channels. */
    public static int panelScales(int bits, int channels) {
        return channels * panelStride(bits);
    }

    /** Offset of the zero points in an index panel. */
    public static int panelZeros(int bits, int channels) {
        return panelScales(bits, channels) + channels * PANEL * HALF;
    }

    /** Bytes of an index panel. */
    public static int panelBytes(int bits, int channels) {
        return panelZeros(bits, channels) + channels * PANEL * HALF;
    }

    /** Bytes of the codes of a key or a value in a token record of 4, 8 or 16 bits. */
    public static int recordCodes(int bits, int headSize) {
        return bits == 16 ? headSize * HALF : rowBytes(bits, headSize);
    }

    /** Bytes of the parameters of a key or a value in a token record. */
    public static int recordParameters(int bits, int headSize) {
        return bits == 16 ? 0 : 2 * groups(headSize) * HALF;
    }

    /** Bytes of a token record. */
    public static int recordBytes(int bits, int headSize) {
        return 2 * (recordCodes(bits, headSize) + recordParameters(bits, headSize));
    }
}
