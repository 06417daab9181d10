package io.github.tailorkv.jlama;

import com.github.tjake.jlama.math.VectorMath;
import com.github.tjake.jlama.safetensors.DType;
import com.github.tjake.jlama.tensor.AbstractTensor;
import io.github.tailorkv.kernels.AttentionKernels;
import io.github.tailorkv.kernels.AttentionShape;
import java.lang.foreign.MemorySegment;
import java.util.Optional;

/** What the attention layers of one model share, and the way from Jlama's tensors to rows of F32 and back. */
@SuppressWarnings("rawtypes")
final class ModelBridge {
    /** From this many rows on the rotary embedding is worth other cores. */
    private static final int PARALLEL_ROWS = 16;

    private final TailorKvBufferCache cache;
    private final AttentionShape shape;
    private final Optional<RotaryTable> rotary;
    private final AttentionKernels kernels;

    ModelBridge(TailorKvBufferCache cache, AttentionShape shape, Optional<RotaryTable> rotary,
            AttentionKernels kernels) {
        this.cache = cache;
        this.shape = shape;
        this.rotary = rotary;
        this.kernels = kernels;
    }

    TailorKvBufferCache cache() {
        return cache;
    }

    AttentionShape shape() {
        return shape;
    }

    /** Columns {@code [start, start + length)} of a tensor as contiguous F32 rows: the tensor's own memory if it can be. */
    MemorySegment read(AbstractTensor tensor, int start, int length, Scratch scratch, Scratch.Use use) {
        if (isContiguous(tensor, length)) {
            return tensor.getMemorySegment().asSlice((long) start * Float.BYTES, rowBytes(tensor, length));
        }
        MemorySegment rows = scratch.floats(use, (long) tensor.shape().first() * length);
        forEachRow(tensor, start, length, (segment, offset, row) -> {
            if (tensor.dType() == DType.BF16) {
                kernels.fromBFloat16(segment, offset, rows, row, length);
            } else {
                MemorySegment.copy(segment, offset, rows, row, (long) length * Float.BYTES);
            }
        });
        return rows;
    }

    /** Where contiguous F32 rows for columns {@code [start, start + length)} of a tensor are to be written. */
    MemorySegment target(AbstractTensor tensor, int start, int length, Scratch scratch) {
        return isContiguous(tensor, length)
                ? tensor.getMemorySegment().asSlice((long) start * Float.BYTES, rowBytes(tensor, length))
                : scratch.floats(Scratch.Use.OUTPUT, (long) tensor.shape().first() * length);
    }

    /** Brings rows written to {@link #target} into the tensor, if they are not there already. */
    void write(MemorySegment rows, AbstractTensor tensor, int start, int length) {
        if (isContiguous(tensor, length)) {
            return;
        }
        forEachRow(tensor, start, length, (segment, offset, row) -> {
            if (tensor.dType() == DType.BF16) {
                kernels.toBFloat16(rows, row, segment, offset, length);
            } else {
                MemorySegment.copy(rows, row, segment, offset, (long) length * Float.BYTES);
            }
        });
    }

    private interface RowAction {
        /** @param offset of the row's part in the tensor, {@code row} of the contiguous row, both in bytes */
        void accept(MemorySegment segment, long offset, long row);
    }

    private static void forEachRow(AbstractTensor tensor, int start, int length, RowAction action) {
        long bytes = tensor.dType() == DType.BF16 ? Short.BYTES : Float.BYTES;
        int width = tensor.shape().last();
        for (int row = 0; row < tensor.shape().first(); row++) {
            action.accept(
                    tensor.getMemorySegment(), ((long) row * width + start) * bytes, (long) row * length * Float.BYTES);
        }
    }

    private static boolean isContiguous(AbstractTensor tensor, int length) {
        return tensor.dType() == DType.F32 && (tensor.shape().last() == length || tensor.shape().first() == 1);
    }

    private static long rowBytes(AbstractTensor tensor, int length) {
        return (long) tensor.shape().first() * length * Float.BYTES;
    }

    /** Applies positions {@code start, start + 1, ...} to the rows of queries and keys. */
    void rotate(int start, int rows, MemorySegment q, MemorySegment k) {
        if (rotary.isEmpty()) {
            return;
        }
        RotaryTable table = rotary.get();
        if (rows < PARALLEL_ROWS) {
            for (int row = 0; row < rows; row++) {
                rotate(table, start + row, row, q, k);
            }
        } else {
            VectorMath.pfor(0, rows, row -> rotate(table, start + row, row, q, k));
        }
    }

    private void rotate(RotaryTable table, int position, int row, MemorySegment q, MemorySegment k) {
        int headSize = shape.headSize();
        long queries = (long) row * shape.heads() * headSize * Float.BYTES;
        long keys = (long) row * shape.kvHeads() * headSize * Float.BYTES;
        long angles = table.offset(position);
        kernels.rotate(q, queries, shape.heads(), headSize, table.angles(), angles);
        kernels.rotate(k, keys, shape.kvHeads(), headSize, table.angles(), angles);
    }
}
