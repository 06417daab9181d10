package io.github.tailorkv.cache;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.mockito.Answers.RETURNS_DEFAULTS;
import static org.mockito.Mockito.mock;

import io.github.tailorkv.kernels.AttentionKernels;
import io.github.tailorkv.kernels.AttentionShape;
import java.util.concurrent.atomic.AtomicLong;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

class PackedBlocksTest {
    private static final AttentionShape SHAPE = new AttentionShape(4, 2, 64, 0.125f, 0);

    /** Another product of the thread would read it, and by then the memory may be another's or nobody's. */
    @ParameterizedTest
    @ValueSource(strings = {"packedScores", "packedAccumulate"})
    void nothingIsExpectedAfterAnError(String failing) {
        AtomicLong expected = new AtomicLong();
        AttentionKernels kernels = mock(AttentionKernels.class, call -> {
            String operation = call.getMethod().getName();
            if (operation.equals("expect")) {
                expected.set(call.getArgument(2));
            } else if (operation.equals(failing)) {
                throw new IllegalStateException(failing);
            }
            return RETURNS_DEFAULTS.answer(call);
        });
        try (PackedBlocks blocks = new PackedBlocks(kernels, SHAPE, 4);
                DecodeScratch work = new DecodeScratch(kernels, SHAPE)) {
            blocks.add(2);
            assertThrows(IllegalStateException.class, () -> blocks.attend(0, 0, 2, work.memory, 0, work));
            assertEquals(0, expected.get());
        }
    }
}
