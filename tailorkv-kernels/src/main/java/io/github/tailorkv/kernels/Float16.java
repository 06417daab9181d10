package io.github.tailorkv.kernels;

/**
 * Rounding to IEEE 754 half precision in a chosen direction. Scale and zero point of a group are rounded outwards
 * before codes are computed, so that the range the codes span still covers every element and the error of the rounding
 * is absorbed by the codes. Results are always finite: what lies beyond the largest half is clamped to it.
 */
final class Float16 {

    static final float MAX = 65504f;

    private Float16() {}

    /** The largest half that is not above {@code x}. */
    static short floor(float x) {
        short nearest = Float.floatToFloat16(clamp(x));
        return Float.float16ToFloat(nearest) > x && x >= -MAX ? below(nearest) : nearest;
    }

    /** The smallest half that is not below {@code x}. */
    static short ceil(float x) {
        short nearest = Float.floatToFloat16(clamp(x));
        return Float.float16ToFloat(nearest) < x && x <= MAX ? above(nearest) : nearest;
    }

    private static float clamp(float x) {
        return Math.min(Math.max(x, -MAX), MAX);
    }

    private static short below(short half) {
        if ((half & 0x7fff) == 0) {
            return (short) 0x8001;
        }
        return (short) (half < 0 ? half + 1 : half - 1);
    }

    private static short above(short half) {
        if ((half & 0x7fff) == 0) {
            return 0x0001;
        }
        return (short) (half < 0 ? half - 1 : half + 1);
    }
}
