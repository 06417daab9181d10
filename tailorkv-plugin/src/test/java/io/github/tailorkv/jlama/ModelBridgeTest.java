package io.github.tailorkv.jlama;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotNull;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.mockito.Mockito.mock;

import com.github.tjake.jlama.tensor.AbstractTensor;
import com.github.tjake.jlama.tensor.BFloat16BufferTensor;
import com.github.tjake.jlama.tensor.FloatBufferTensor;
import com.github.tjake.jlama.model.AbstractModel;
import io.github.tailorkv.config.Settings;
import io.github.tailorkv.kernels.AttentionShape;
import io.github.tailorkv.kernels.KernelLadder;
import io.github.tailorkv.spi.ModelShape;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.ArrayList;
import java.util.List;
import java.util.Optional;
import java.util.concurrent.atomic.AtomicInteger;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

class ModelBridgeTest {
    private static final int WIDTH = 48;

    private final AttentionShape shape = new AttentionShape(2, 1, 16, 0.25f, 0);
    private final ModelBridge bridge = new ModelBridge(
            cache(shape), shape, Optional.empty(), KernelLadder.choose("scalar"));

    private static TailorKvBufferCache cache(AttentionShape shape) {
        ModelShape model = new ModelShape("LLAMA", 1, shape, 1000, false, 1, Optional.empty());
        Settings settings = Settings.preset("exact");
        CountingProvider provider = new CountingProvider();
        return new TailorKvBufferCache(
                mock(AbstractModel.class), provider, provider.open(model, settings), model, settings);
    }

    private static AbstractTensor<?, ?> tensor(boolean bfloat16, int rows) {
        AbstractTensor<?, ?> tensor = bfloat16
                ? new BFloat16BufferTensor(rows, WIDTH)
                : new FloatBufferTensor(rows, WIDTH);
        for (int row = 0; row < rows; row++) {
            for (int column = 0; column < WIDTH; column++) {
                tensor.set(row * 64 + column, row, column);
            }
        }
        return tensor;
    }

    /** Whole rows, the first part of them, a part in the middle; one row and several. */
    @ParameterizedTest
    @CsvSource({"false,1,0,48", "false,1,16,32", "false,3,0,48", "false,3,0,16", "false,3,16,32", "true,1,0,48",
        "true,2,16,32"})
    void rowsGoThereAndBack(boolean bfloat16, int rows, int start, int length) {
        AbstractTensor<?, ?> tensor = tensor(bfloat16, rows);
        Scratch scratch = new Scratch.Pool(bytes -> null).take();
        MemorySegment read = bridge.read(tensor, start, length, scratch, Scratch.Use.QUERY);
        assertEquals((long) rows * length * Float.BYTES, read.byteSize());
        for (int i = 0; i < rows * length; i++) {
            float expected = i / length * 64 + start + i % length;
            assertEquals(expected, read.getAtIndex(ValueLayout.JAVA_FLOAT, i));
        }
        MemorySegment target = bridge.target(tensor, start, length, scratch);
        for (int i = 0; i < rows * length; i++) {
            target.setAtIndex(ValueLayout.JAVA_FLOAT, i, -1 - i);
        }
        bridge.write(target, tensor, start, length);
        for (int row = 0; row < rows; row++) {
            for (int column = 0; column < WIDTH; column++) {
                boolean written = column >= start && column < start + length;
                float expected = written ? -1 - (row * length + column - start) : row * 64 + column;
                assertEquals(expected, tensor.get(row, column));
            }
        }
    }

    @Test
    void wholeFloatRowsAreNotCopied() {
        AbstractTensor<?, ?> tensor = tensor(false, 3);
        MemorySegment rows = bridge.read(tensor, 0, WIDTH, new Scratch.Pool(bytes -> null).take(), Scratch.Use.KEY);
        assertEquals(tensor.getMemorySegment().address(), rows.address());
        assertEquals(rows.address(), bridge.target(tensor, 0, WIDTH, new Scratch.Pool(bytes -> null).take()).address());
    }

    @Test
    void scratchIsUsedAgain() {
        Scratch.Pool pool = new Scratch.Pool(bytes -> null);
        Scratch scratch = pool.take();
        MemorySegment first = scratch.floats(Scratch.Use.KEY, 100);
        pool.giveBack(scratch);
        assertEquals(first.address(), pool.take().floats(Scratch.Use.KEY, 80).address());
        assertEquals(1000 * Float.BYTES, scratch.floats(Scratch.Use.KEY, 1000).byteSize());
    }

    @Test
    void tensorsLieInWhatTheCacheLends() {
        List<MemorySegment> lent = new ArrayList<>();
        try (Arena arena = Arena.ofConfined()) {
            Scratch scratch = new Scratch.Pool(bytes -> {
                lent.add(arena.allocate(bytes, 64));
                return lent.getLast();
            }).take();
            AbstractTensor<?, ?> tensor = scratch.tensor(Scratch.Use.QUERY, 3, WIDTH);
            assertNotNull(tensor);
            tensor.set(7, 2, WIDTH - 1);
            assertEquals(7, lent.getFirst().getAtIndex(ValueLayout.JAVA_FLOAT, 3 * WIDTH - 1));
            MemorySegment rows = bridge.read(tensor, 0, WIDTH, scratch, Scratch.Use.QUERY);
            assertEquals(lent.getFirst().address(), rows.address());
            assertNotNull(scratch.tensor(Scratch.Use.QUERY, 2, WIDTH));
            assertEquals(1, lent.size(), "fewer rows lie in the same memory");
            assertNotNull(scratch.tensor(Scratch.Use.QUERY, 300, WIDTH));
            assertEquals(2, lent.size());
        }
    }

    @Test
    void aCacheThatLendsNothingIsAskedOnce() {
        AtomicInteger asked = new AtomicInteger();
        Scratch scratch = new Scratch.Pool(bytes -> {
            asked.incrementAndGet();
            return null;
        }).take();
        assertNull(scratch.tensor(Scratch.Use.QUERY, 3, WIDTH));
        assertNull(scratch.tensor(Scratch.Use.KEY, 3, WIDTH));
        assertEquals(1, asked.get());
    }
}
