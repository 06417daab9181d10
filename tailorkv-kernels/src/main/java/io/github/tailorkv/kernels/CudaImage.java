package io.github.tailorkv.kernels;

import java.io.IOException;
import java.io.InputStream;
import java.io.UncheckedIOException;
import java.util.Optional;
import java.util.zip.GZIPInputStream;

/** The compiled GPU kernels: one image for all architectures, made by {@code cuda.sh} from {@code src/main/cuda}. */
public final class CudaImage {

    private static final String RESOURCE = "cuda.fatbin.gz";

    private CudaImage() {}

    /** The image as the driver loads it; empty if this build has none. */
    public static Optional<byte[]> load() {
        try (InputStream packed = CudaImage.class.getResourceAsStream(RESOURCE)) {
            if (packed == null) {
                return Optional.empty();
            }
            try (InputStream image = new GZIPInputStream(packed)) {
                return Optional.of(image.readAllBytes());
            }
        } catch (IOException e) {
            throw new UncheckedIOException("the GPU kernels cannot be read", e);
        }
    }
}
