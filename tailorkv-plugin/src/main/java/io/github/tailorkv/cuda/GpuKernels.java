package io.github.tailorkv.cuda;

import io.github.tailorkv.config.Settings;
import io.github.tailorkv.kernels.AttentionShape;
import io.github.tailorkv.kernels.BlockLayout;

/** The kernels for one model, each with the shared memory that its shape asks for. */
final class GpuKernels {

    /** Rows of queries that a histogram of the dense preference is made for at once. */
    static final int PREFERENCE_ROWS = 16;
    static final int PREFERENCE_BINS = 1024;

    /** Query heads of one KV head that share a thread block in decode steps. */
    static final int CHUNK_HEADS = 4;

    private static final int BATCH = 20;
    private static final int THREADS = 256;
    private static final int PREFILL_THREADS = 128;
    private static final int WARPGROUP_THREADS = 384;
    private static final int WARPGROUP_TILE = 128;
    /** Bytes of eight rows, at multiples of which the tiles of warpgroups begin. */
    private static final int SWIZZLED_ROWS = 1024;
    /** Tiles of keys and values that are on their way at once. */
    private static final int STAGES = 2;

    final Gpu.Kernel append;
    final Gpu.Kernel remember;
    final Gpu.Kernel sealRows;
    final Gpu.Kernel fillIndex;
    final Gpu.Kernel chooseIndexed;
    final Gpu.Kernel sealPacked;
    final Gpu.Kernel restore;
    final Gpu.Kernel expand;
    final Gpu.Kernel clearRanges;
    final Gpu.Kernel prefill;
    final Gpu.Kernel combine;
    final Gpu.Kernel preferenceSums;
    final Gpu.Kernel preferenceWeights;
    final Gpu.Kernel decode;

    /** Head size that prefill computes with, the model's padded by zeros. */
    final int paddedHeadSize;

    /** Rows of queries in a tile of prefill. */
    final int prefillRows;

    /** Whether prefill wants keys and values in tiles as warpgroups multiply them, of whole {@link #tileTokens}. */
    final boolean tiled;

    /** Tokens in a tile of keys or values of prefill. */
    final int tileTokens;

    GpuKernels(Gpu gpu, AttentionShape shape, Settings settings) {
        int headSize = shape.headSize();
        int rowBytes = headSize * Float.BYTES;
        append = gpu.kernel("append", 128, 0);
        remember = gpu.kernel("remember", 128, 0);
        sealRows = gpu.kernel("sealRows", THREADS, BlockLayout.BLOCK * GpuArguments.recordBytes(shape, settings));
        fillIndex = gpu.kernel("fillIndex", THREADS, 0);
        chooseIndexed = gpu.kernel("chooseIndexed", THREADS, 0);
        sealPacked = gpu.kernel("sealPacked", THREADS, BlockLayout.BLOCK * rowBytes);
        restore = gpu.kernel("restore", THREADS, 0);
        expand = gpu.kernel("expand", THREADS, 0);
        clearRanges = gpu.kernel("clearRanges", 128, 0);

        paddedHeadSize = headSize <= 64 ? 64 : headSize <= 128 ? 128 : headSize <= 192 ? 192 : 256;
        prefillRows = paddedHeadSize <= 128 ? 128 : 64;
        tiled = gpu.warpgroups() && paddedHeadSize <= 128;
        tileTokens = tiled ? WARPGROUP_TILE : BlockLayout.BLOCK;
        int stages = paddedHeadSize <= 128 ? STAGES : 1;
        int tileBytes = (prefillRows + 2 * tileTokens * stages) * paddedHeadSize * Short.BYTES;
        prefill = tiled
                ? gpu.kernel("warpgroupPrefill" + paddedHeadSize, WARPGROUP_THREADS, tileBytes + SWIZZLED_ROWS)
                : gpu.kernel("prefill" + paddedHeadSize, PREFILL_THREADS, tileBytes);
        combine = gpu.kernel("combine", 128, 0);
        preferenceSums = gpu.kernel("preferenceSums", THREADS, PREFERENCE_ROWS * rowBytes);
        preferenceWeights = gpu.kernel(
                "preferenceWeights",
                THREADS,
                PREFERENCE_ROWS * (rowBytes + PREFERENCE_BINS * Integer.BYTES));

        int group = shape.groupSize();
        int rows = group == 1 ? 1 : group <= 4 ? 4 : group <= 8 ? 8 : 16;
        int selection = 256 * (rows + 1) + GpuArguments.HISTOGRAM_BINS;
        int rowAsStored = GpuArguments.recordBytes(shape, settings)
                + (settings.rows() == Settings.Rows.BF16 ? 0 : 3 * headSize);
        int tokens = BATCH * (2 * headSize + 8 + CHUNK_HEADS + rowAsStored / Float.BYTES);
        int floats = (rows + CHUNK_HEADS) * headSize + Math.max(8192, Math.max(selection, tokens));
        decode = gpu.kernel("decode" + rows, THREADS, floats * Float.BYTES);
    }
}
