package io.github.tailorkv.models;

import java.nio.ByteBuffer;

/** How a safetensors file stores a weight. */
public enum WeightType {
    F32(Float.BYTES), BF16(Short.BYTES);

    private final int bytes;

    WeightType(int bytes) {
        this.bytes = bytes;
    }

    int bytes() {
        return bytes;
    }

    void put(ByteBuffer target, float value) {
        if (this == F32) {
            target.putFloat(value);
        } else {
            int bits = Float.floatToRawIntBits(value);
            int halfToEven = 0x7FFF + ((bits >>> 16) & 1);
            target.putShort((short) ((bits + halfToEven) >>> 16));
        }
    }
}
