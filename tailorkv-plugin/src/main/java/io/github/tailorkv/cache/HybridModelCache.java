package io.github.tailorkv.cache;

import io.github.tailorkv.config.Settings;
import io.github.tailorkv.config.SettingsException;
import io.github.tailorkv.kernels.AttentionKernels;
import io.github.tailorkv.kernels.KernelLadder;
import io.github.tailorkv.spi.ModelCache;
import io.github.tailorkv.spi.ModelShape;
import io.github.tailorkv.spi.SessionCache;
import java.util.ArrayDeque;
import java.util.Collections;
import java.util.Deque;
import java.util.Locale;
import java.util.Set;
import java.util.WeakHashMap;

/** What the sessions of one model share: kernels, threads, scratch memory, and the policy as far as it is fixed. */
final class HybridModelCache implements ModelCache {

    private final ModelShape shape;
    private final LayerKinds kinds;
    private final LayerContext context;
    private final Workers workers;
    private final Deque<Workspace> idle = new ArrayDeque<>();
    private final Set<HybridSessionCache> sessions = Collections.newSetFromMap(new WeakHashMap<>());
    private boolean closed;

    HybridModelCache(ModelShape shape, Settings settings) {
        this.shape = shape;
        checkBudget(shape, settings);
        kinds = LayerKinds.of(shape, settings);
        AttentionKernels kernels = kernels(settings.backend());
        context = new LayerContext(
                shape.attention(), settings, kernels, kinds.kinds(), shape.bfloat16());
        workers = new Workers(shape.threads());
    }

    static void checkBudget(ModelShape shape, Settings settings) {
        int most = Math.max(shape.contextLength(), Settings.DEFAULT_BUDGET);
        if (settings.budget() > most) {
            throw new SettingsException(
                    "tailorkv.budget=" + settings.budget() + " is too large for this model, whose context is "
                            + shape.contextLength() + " tokens; set it to a whole number from 1 to " + most);
        }
    }

    private static AttentionKernels kernels(Settings.Backend backend) {
        try {
            return switch (backend) {
                case AUTO -> KernelLadder.choose("auto");
                case PANAMA -> KernelLadder.choose("panama");
                case SCALAR -> KernelLadder.choose("scalar");
                case CUDA -> throw new IllegalStateException("it is not a backend of the CPU");
            };
        } catch (IllegalStateException e) {
            throw new SettingsException("tailorkv.backend=" + backend.name().toLowerCase(Locale.ROOT)
                    + " cannot be had: " + e.getMessage());
        }
    }

    LayerContext context() {
        return context;
    }

    Workers workers() {
        return workers;
    }

    int layers() {
        return shape.layers();
    }

    int contextLength() {
        return shape.contextLength();
    }

    /** Lends scratch memory for one call of {@code attend}. */
    synchronized Workspace borrow() {
        Workspace workspace = idle.pollLast();
        return workspace == null ? new Workspace(context, workers.slots()) : workspace;
    }

    synchronized void giveBack(Workspace workspace) {
        if (closed) {
            workspace.close();
        } else {
            idle.addLast(workspace);
        }
    }

    @Override
    public synchronized SessionCache newSession() {
        if (closed) {
            throw new IllegalStateException("the model is closed");
        }
        HybridSessionCache session = new HybridSessionCache(this);
        sessions.add(session);
        return session;
    }

    @Override
    public String backend() {
        return context.kernels().name();
    }

    @Override
    public String policy() {
        return kinds.origin();
    }

    @Override
    public void close() {
        Set<HybridSessionCache> open;
        synchronized (this) {
            if (closed) {
                return;
            }
            closed = true;
            open = Set.copyOf(sessions);
            idle.forEach(Workspace::close);
            idle.clear();
        }
        open.forEach(HybridSessionCache::close);
        workers.close();
    }
}
