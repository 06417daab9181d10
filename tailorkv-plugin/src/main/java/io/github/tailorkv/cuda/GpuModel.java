package io.github.tailorkv.cuda;

import io.github.tailorkv.config.LayerKind;
import io.github.tailorkv.config.Settings;
import io.github.tailorkv.kernels.AttentionShape;
import io.github.tailorkv.spi.ModelCache;
import io.github.tailorkv.spi.ModelShape;
import io.github.tailorkv.spi.SessionCache;
import java.lang.foreign.MemorySegment;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.Set;
import java.util.WeakHashMap;
import java.util.concurrent.Executor;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.ThreadPoolExecutor;
import java.util.concurrent.TimeUnit;
import java.util.function.Supplier;
import org.jspecify.annotations.Nullable;

/**
 * What the sessions of one model share on the GPU: the context and its streams, the pools of blocks, the workspace. The
 * sessions take turns, call by call: the device would run them one after another anyway.
 */
final class GpuModel implements ModelCache {

    private static final System.Logger LOG = System.getLogger("io.github.tailorkv");

    /** Where a part of a block may lie. */
    record Homes(Slabs device, Slabs pinned) implements AutoCloseable {

        static Homes of(Gpu gpu, GpuBudget budget, Executor pinning, long bytes) {
            return new Homes(Slabs.onDevice(gpu, budget, bytes), Slabs.pinned(gpu, budget, pinning, bytes));
        }

        @Override
        public void close() {
            device.close();
            pinned.close();
        }
    }

    private final Gpu gpu;
    private final ModelShape shape;
    private final Settings settings;
    private final CudaBackend.LayerPolicy policy;
    private final @Nullable Supplier<ModelCache> otherwise;
    private final GpuBudget budget;
    /** One thread, which ends when it has had nothing to do for a while. */
    private final ExecutorService pinning = new ThreadPoolExecutor(
            0, 1, 10, TimeUnit.SECONDS, new LinkedBlockingQueue<>(), GpuModel::pinningThread);
    private final GpuKernels kernels;
    private final Homes tiles;
    private final Homes index;
    private final List<Homes> rows = new ArrayList<>();
    private final Homes packed;
    private final GpuWorkspace workspace;
    private final Set<GpuSession> sessions = Collections.newSetFromMap(new WeakHashMap<>());
    private @Nullable ModelCache substitute;
    private @Nullable GpuException lost;
    private boolean full;
    private boolean closed;

    /**
     * @param gpu owned by this object
     * @param otherwise opens the cache that serves new sessions once the device is lost; null to fail instead
     */
    GpuModel(
            Gpu gpu, ModelShape shape, Settings settings, CudaBackend.LayerPolicy policy,
            @Nullable Supplier<ModelCache> otherwise) {
        this.gpu = gpu;
        this.shape = shape;
        this.settings = settings;
        this.otherwise = otherwise;
        this.policy = policy;
        gpu.bind();
        AttentionShape attention = shape.attention();
        budget = new GpuBudget(gpu, settings.gpuMemory() != 0 ? settings.gpuMemory() : gpu.freeBytes() / 10 * 9);
        kernels = new GpuKernels(gpu, attention, settings);
        int heads = attention.kvHeads();
        tiles = Homes.of(gpu, budget, pinning, GpuArguments.tileBytes(attention));
        index = Homes.of(gpu, budget, pinning, (long) heads * GpuArguments.indexBytes(attention, settings));
        long rowBytes = 64L * heads * GpuArguments.recordBytes(attention, settings);
        Slabs deviceRows = Slabs.onDevice(gpu, budget, rowBytes);
        for (int layer = 0; layer < shape.layers(); layer++) {
            rows.add(new Homes(deviceRows, Slabs.pinned(gpu, budget, pinning, rowBytes)));
        }
        packed = Homes.of(gpu, budget, pinning, (long) heads * GpuArguments.packedBytes(attention, settings));
        workspace = new GpuWorkspace(gpu, budget, kernels, attention, settings);
    }

    private static Thread pinningThread(Runnable work) {
        Thread thread = new Thread(work, "tailorkv-pinning");
        thread.setDaemon(true);
        return thread;
    }

    Gpu gpu() {
        return gpu;
    }

    ModelShape shape() {
        return shape;
    }

    Settings settings() {
        return settings;
    }

    GpuBudget budget() {
        return budget;
    }

    GpuKernels kernels() {
        return kernels;
    }

    Homes tiles() {
        return tiles;
    }

    Homes index() {
        return index;
    }

    /**
     * Rows of a layer. In host memory each layer has stretches of its own: a decode step reads rows all over a layer, and the
     * link to the host translates addresses quickly only while they lie within a few hundred pages of 2 MiB.
     */
    Homes rows(int layer) {
        return rows.get(layer);
    }

    Homes packed() {
        return packed;
    }

    GpuWorkspace workspace() {
        return workspace;
    }

    /** The kind that is known before a prompt is; null where the prompt decides. */
    @Nullable
    LayerKind fixedKind(int layer) {
        return policy.kinds().get(layer);
    }

    /** Once: sessions go on in host memory. */
    void sayThatMemoryIsFull(GpuException e) {
        if (!full) {
            full = true;
            LOG.log(
                    System.Logger.Level.WARNING,
                    "GPU memory is full (" + e.getMessage()
                            + "); further tokens go to pinned host memory and are read from there, slower. Raise"
                            + " tailorkv.gpu.memory, or choose fewer tailorkv.bits or a smaller tailorkv.index");
        }
    }

    /** Work with the device, one session at a time. */
    <T> T exclusively(Supplier<T> work) {
        synchronized (this) {
            if (closed) {
                throw new IllegalStateException("the model is closed");
            }
            if (lost != null) {
                throw lostSession(lost);
            }
            try {
                gpu.bind();
                return work.get();
            } catch (GpuException e) {
                if (e.kind() == GpuException.Kind.LOST) {
                    lost = e;
                    LOG.log(
                            System.Logger.Level.ERROR,
                            "The GPU was lost (" + e.getMessage() + "); its sessions have ended, new ones "
                                    + (otherwise == null ? "fail: restart the application" : "run on the CPU"));
                }
                throw lostSession(e);
            }
        }
    }

    private static IllegalStateException lostSession(GpuException cause) {
        return new IllegalStateException(
                (cause.kind() == GpuException.Kind.OUT_OF_MEMORY
                        ? "neither GPU nor pinned memory is left; close sessions or raise tailorkv.gpu.memory: "
                        : "the session's keys and values on the GPU are gone; begin a new session: ")
                        + cause.getMessage(),
                cause);
    }

    @Override
    public SessionCache newSession() {
        synchronized (this) {
            if (closed) {
                throw new IllegalStateException("the model is closed");
            }
            if (lost != null && otherwise != null) {
                if (substitute == null) {
                    substitute = otherwise.get();
                }
                return substitute.newSession();
            }
        }
        return exclusively(() -> {
            GpuSession session = new GpuSession(this);
            sessions.add(session);
            return session;
        });
    }

    /** Pinned memory; none is lent when there is none left, or the device is lost. */
    @Override
    public @Nullable MemorySegment lend(long bytes) {
        synchronized (this) {
            if (closed || lost != null) {
                return null;
            }
            try {
                gpu.bind();
                return workspace.staging().lend(bytes);
            } catch (GpuException e) {
                LOG.log(System.Logger.Level.DEBUG, "No pinned memory for rows: " + e.getMessage());
                return null;
            }
        }
    }

    @Override
    public String backend() {
        ModelCache other = substitute;
        return other == null ? "cuda" : other.backend();
    }

    @Override
    public String policy() {
        return policy.origin();
    }

    /** Frees what a session holds, unless the whole model is gone already. */
    void release(Runnable work) {
        synchronized (this) {
            if (!closed && lost == null) {
                gpu.bind();
                gpu.synchronize();
                work.run();
            }
        }
    }

    @Override
    public void close() {
        synchronized (this) {
            if (closed) {
                return;
            }
            if (lost == null) {
                try {
                    gpu.bind();
                    gpu.synchronize();
                    Set.copyOf(sessions).forEach(GpuSession::close);
                    tiles.close();
                    index.close();
                    rows.forEach(Homes::close);
                    packed.close();
                    workspace.close();
                    budget.close();
                } catch (GpuException e) {
                    LOG.log(System.Logger.Level.WARNING, "The GPU was lost while it was closed: " + e.getMessage());
                }
            }
            closed = true;
            pinning.close();
            gpu.close();
            if (substitute != null) {
                substitute.close();
            }
        }
    }
}
