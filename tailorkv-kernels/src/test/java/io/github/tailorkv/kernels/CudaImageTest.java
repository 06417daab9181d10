package io.github.tailorkv.kernels;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.InputStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.MessageDigest;
import java.util.HexFormat;
import java.util.List;
import java.util.Objects;
import java.util.stream.Stream;

import org.junit.jupiter.api.Test;

final class CudaImageTest {

    private static final Path SOURCES = Path.of("src/main/cuda");

    @Test
    void imageWasMadeFromTheSourcesAsTheyAre() throws Exception {
        List<Path> files;
        try (Stream<Path> all = Files.list(SOURCES)) {
            files = all.filter(file -> file.toString().endsWith(".cu") || file.toString().endsWith(".cuh"))
                    .sorted()
                    .toList();
        }
        MessageDigest digest = MessageDigest.getInstance("SHA-256");
        for (Path file : files) {
            digest.update(Files.readAllBytes(file));
        }
        String made;
        try (InputStream hash = Objects.requireNonNull(CudaImage.class.getResourceAsStream("cuda.sha256"))) {
            made = new String(hash.readAllBytes(), StandardCharsets.UTF_8).strip();
        }
        assertEquals(
                HexFormat.of().formatHex(digest.digest()),
                made,
                "the GPU kernels are older than their sources: run tailorkv-kernels/cuda.sh where there is nvcc 13");
    }

    @Test
    void imageIsAFatBinary() {
        byte[] image = CudaImage.load().orElseThrow();
        // The magic number of a fat binary, little endian.
        assertEquals("50ed55ba", HexFormat.of().formatHex(image, 0, 4));
        assertTrue(image.length > 1 << 20, () -> image.length + " bytes");
    }
}
