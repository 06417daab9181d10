package io.github.tailorkv.models;

import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.channels.FileChannel;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.SplittableRandom;

/**
 * Writes random tensors to a safetensors file: eight bytes with the header's length, a JSON header that gives each tensor
 * its type, shape and byte range, then the weights. They go out through one small buffer, so a model of any size can be
 * written. Each tensor has its own random sequence, drawn from the seed and its name: adding a tensor changes no other.
 */
final class SafeTensorsWriter {
    private static final int BUFFER = 1 << 20;
    private static final int ALIGNMENT = 64;

    /** Half the width of the uniform distribution whose standard deviation is 1. */
    private static final float UNIT_WIDTH = (float) Math.sqrt(3);

    private SafeTensorsWriter() {}

    /**
     * @param mean of the weights
     * @param deviation their standard deviation
     */
    record Tensor(String name, float mean, float deviation, List<Integer> shape) {

        /** A matrix that keeps the scale of its input: a unit vector in gives components of size {@code gain}. */
        static Tensor matrix(String name, double gain, int rows, int columns) {
            return new Tensor(name, 0, (float) (gain / Math.sqrt(columns)), List.of(rows, columns));
        }

        /** As {@link #matrix}, stored as [columns, rows], the way of GPT-2. */
        static Tensor transposed(String name, double gain, int rows, int columns) {
            return new Tensor(name, 0, (float) (gain / Math.sqrt(columns)), List.of(columns, rows));
        }

        static Tensor rows(String name, double deviation, int rows, int columns) {
            return new Tensor(name, 0, (float) deviation, List.of(rows, columns));
        }

        static Tensor vector(String name, double mean, double deviation, int length) {
            return new Tensor(name, (float) mean, (float) deviation, List.of(length));
        }

        long elements() {
            return shape.stream().mapToLong(Integer::longValue).reduce(1, Math::multiplyExact);
        }
    }

    static void write(Path file, WeightType type, long seed, List<Tensor> tensors) throws IOException {
        try (FileChannel out = FileChannel.open(
                file,
                StandardOpenOption.CREATE,
                StandardOpenOption.TRUNCATE_EXISTING,
                StandardOpenOption.WRITE)) {
            writeFully(out, header(type, tensors));
            ByteBuffer buffer = ByteBuffer.allocateDirect(BUFFER).order(ByteOrder.LITTLE_ENDIAN);
            for (Tensor tensor : tensors) {
                writeWeights(out, buffer, type, seed, tensor);
            }
            flush(out, buffer);
        }
    }

    private static ByteBuffer header(WeightType type, List<Tensor> tensors) throws IOException {
        Map<String, Object> entries = new LinkedHashMap<>();
        long offset = 0;
        for (Tensor tensor : tensors) {
            long end = offset + tensor.elements() * type.bytes();
            entries.put(
                    tensor.name(),
                    Map.of("dtype", type.name(), "shape", tensor.shape(), "data_offsets", List.of(offset, end)));
            offset = end;
        }
        byte[] json = new ObjectMapper().writeValueAsString(entries).getBytes(StandardCharsets.UTF_8);
        int end = (Long.BYTES + json.length + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
        byte[] padding = new byte[end - Long.BYTES - json.length];
        Arrays.fill(padding, (byte) ' ');
        return ByteBuffer.allocate(end)
                .order(ByteOrder.LITTLE_ENDIAN)
                .putLong(end - Long.BYTES)
                .put(json)
                .put(padding)
                .flip();
    }

    private static void writeWeights(FileChannel out, ByteBuffer buffer, WeightType type, long seed, Tensor tensor)
            throws IOException {
        SplittableRandom random = new SplittableRandom(seed * 31 + tensor.name().hashCode());
        float width = 2 * UNIT_WIDTH * tensor.deviation();
        float lowest = tensor.mean() - width / 2;
        for (long left = tensor.elements(); left > 0; left--) {
            if (buffer.remaining() < type.bytes()) {
                flush(out, buffer);
            }
            type.put(buffer, lowest + width * random.nextFloat());
        }
    }

    private static void flush(FileChannel out, ByteBuffer buffer) throws IOException {
        writeFully(out, buffer.flip());
        buffer.clear();
    }

    private static void writeFully(FileChannel out, ByteBuffer bytes) throws IOException {
        while (bytes.hasRemaining()) {
            out.write(bytes);
        }
    }
}
