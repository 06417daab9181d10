package io.github.tailorkv.cuda;

/** A call of the GPU's driver that failed. */
final class GpuException extends RuntimeException {

    private static final long serialVersionUID = 1L;

    /** What a failure means for what comes after it. */
    enum Kind {
        /** There is no usable GPU, driver or native library. */
        UNUSABLE,
        /** Memory ran out; nothing else is wrong. */
        OUT_OF_MEMORY,
        /** The device's memory and work are gone. */
        LOST
    }

    private final Kind kind;

    GpuException(Kind kind, String message) {
        super(message);
        this.kind = kind;
    }

    Kind kind() {
        return kind;
    }
}
