package io.github.tailorkv.cuda;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.Map;
import java.util.TreeMap;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;

/** What the device's copy of a table is after uploads, put together from the pieces that were sent. */
final class BlockTableTest {

    /** Bytes of a block, five addresses. */
    private static final int BLOCK = 40;

    private final FakeGpu gpu = new FakeGpu();
    private final GpuBudget budget = new GpuBudget(gpu, 1 << 30);
    private final BlockTable table = new BlockTable(gpu, budget);

    @AfterEach
    void nothingIsLeft() {
        table.close();
        budget.close();
        assertTrue(gpu.device.isEmpty() && gpu.host.isEmpty());
    }

    private Map<Long, Long> device() {
        Map<Long, Long> words = new TreeMap<>();
        for (FakeGpu.Upload upload : gpu.uploads) {
            for (int at = 0; at < upload.bytes().capacity(); at += Long.BYTES) {
                words.put(upload.target() + at, upload.bytes().getLong(at));
            }
        }
        return words;
    }

    private long onDevice(int part, int block) {
        long start = table.upload();
        return device().getOrDefault(start + (long) BLOCK * block + 8L * part, -1L);
    }

    @Test
    void theDeviceSeesAddressesWithoutTheMarkOfHostMemory() {
        table.set(BlockTable.TILE, 3, 0x1000, false);
        table.set(BlockTable.ROWS, 3, 0x2000, true);
        assertFalse(table.pinned(BlockTable.TILE, 3));
        assertTrue(table.pinned(BlockTable.ROWS, 3));
        assertEquals(0x2000, table.get(BlockTable.ROWS, 3));
        assertEquals(0x1000, onDevice(BlockTable.TILE, 3));
        assertEquals(0x2000, onDevice(BlockTable.ROWS, 3));
        assertEquals(0, onDevice(BlockTable.HOST_ROWS, 63));
    }

    @Test
    void onlyWhatChangedIsSent() {
        table.upload();
        gpu.uploads.clear();
        table.upload();
        assertTrue(gpu.uploads.isEmpty());
        table.set(BlockTable.INDEX, 5, 0x3000, false);
        table.clear(BlockTable.PACKED, 7);
        long start = table.upload();
        assertEquals(1, gpu.uploads.size());
        assertEquals(start + 5 * BLOCK, gpu.uploads.getFirst().target());
        assertEquals(3 * BLOCK, gpu.uploads.getFirst().bytes().capacity());
        assertEquals(0x3000, onDevice(BlockTable.INDEX, 5));
    }

    @Test
    void whatIsBeingCopiedIsNotOverwritten() {
        table.upload();
        long copied = gpu.asked();
        assertEquals(0, gpu.settled);
        table.set(BlockTable.INDEX, 5, 0x3000, false);
        table.upload();
        assertEquals(copied, gpu.settled);
    }

    @Test
    void aLargerTableHoldsWhatTheSmallerOneDid() {
        table.set(BlockTable.PACKED, 63, 0x4000, true);
        table.upload();
        table.reserve(65);
        table.set(BlockTable.TILE, 64, 0x5000, false);
        gpu.uploads.clear();
        assertEquals(0x4000, onDevice(BlockTable.PACKED, 63));
        assertEquals(0x5000, onDevice(BlockTable.TILE, 64));
        assertTrue(table.pinned(BlockTable.PACKED, 63));
        assertEquals(128 * BLOCK, table.bytesOnDevice());
    }

    @Test
    void aTableThatFindsNoRoomIsReadWhereItIsWritten() {
        gpu.deviceBytes = gpu.used();
        table.reserve(200);
        table.set(BlockTable.TILE, 199, 0x6000, false);
        gpu.uploads.clear();
        long start = table.upload();
        assertTrue(gpu.uploads.isEmpty());
        assertTrue(gpu.host.containsKey(start));
        assertEquals(0, table.bytesOnDevice());
    }
}
