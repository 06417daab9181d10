package io.github.tailorkv.jlama;

import io.github.tailorkv.live.SampledLayer;
import io.github.tailorkv.live.SessionWatch;
import io.github.tailorkv.spi.LayerStatistics;
import io.github.tailorkv.spi.SessionCache;
import java.lang.System.Logger;
import java.lang.System.Logger.Level;
import java.util.List;
import org.jspecify.annotations.Nullable;

/**
 * One session of a model: its cache, and the rules that keep it whole. A <em>pass</em> is one run through all layers, a
 * <em>turn</em> all passes from a prompt to the end of its answer. Only one thread at a time may be in a pass. After an
 * error the tokens of the pass are forgotten in all layers, since some layers may hold them and others not, and the turn
 * counts as failed. A session that is closed during a pass lives until the pass ends.
 *
 * <p>A pass refuses other threads. What is shorter, as a truncation, keeps them waiting: it holds this object's monitor.
 */
final class Session {
    private static final Logger LOG = System.getLogger("io.github.tailorkv");

    private final String name;
    private final SessionCache cache;
    private final SessionWatch watch;
    private final Scratch.Pool scratch;
    private final int contextLength;
    private final Runnable onClose;

    private @Nullable Thread inPass;
    private int passStart;
    private int turnStart;
    private boolean failed;
    private boolean closing;
    private boolean closed;

    /**
     * @param watch told of turns and passes
     * @param scratch for the rows of its passes
     * @param onClose run once, after the cache was closed
     */
    Session(String name, SessionCache cache, SessionWatch watch, Scratch.Pool scratch, int contextLength,
            Runnable onClose) {
        this.name = name;
        this.cache = cache;
        this.watch = watch;
        this.scratch = scratch;
        this.contextLength = contextLength;
        this.onClose = onClose;
    }

    String name() {
        return name;
    }

    /** What was measured of it; empty if nothing was. */
    List<SampledLayer> sampled() {
        return watch.sampled();
    }

    SessionCache cache() {
        return cache;
    }

    Scratch.Pool scratch() {
        return scratch;
    }

    int length() {
        return cache.length();
    }

    /** Begins a turn: errors from here on take the session back to what it holds now. */
    synchronized void beginTurn() {
        turnStart = cache.length();
        failed = false;
        watch.turnBegins();
    }

    /**
     * Ends a turn, and this thread's pass if it is in one; if anything failed, the session is as it was when the turn began.
     *
     * @return what the layers hold
     * @throws IllegalStateException if another thread is in a pass
     */
    synchronized List<LayerStatistics> endTurn() {
        refuseUse();
        // One that was given up between two layers is told by nobody.
        inPass = null;
        List<LayerStatistics> layers = cache.statistics();
        boolean even = layers.stream().mapToInt(LayerStatistics::tokens).distinct().count() <= 1;
        if (failed || !even) {
            cache.truncate(Math.min(turnStart, cache.length()));
            layers = cache.statistics();
        }
        watch.turnEnds(layers);
        return layers;
    }

    synchronized void truncate(int length) {
        refuseUse();
        if (length < 0 || length > cache.length()) {
            throw new IllegalArgumentException(
                    "Session " + name + " holds " + cache.length() + " tokens and cannot be set to " + length);
        }
        cache.truncate(length);
    }

    /**
     * Enters a layer.
     *
     * @param first whether it is the first layer of the pass
     * @throws IllegalStateException if another thread is in a pass, or tokens before {@code start} are missing
     * @throws IllegalArgumentException if the tokens do not fit the context
     */
    synchronized void enter(boolean first, int start, int tokens) {
        refuseUse();
        if (!first) {
            return;
        }
        int length = cache.length();
        if (start > length) {
            LOG.log(Level.ERROR, "Session {0} holds {1} tokens and was asked to continue at {2}", name, length, start);
            throw new IllegalStateException(
                    "Session " + name + " holds " + length + " tokens and cannot continue at position "
                            + start + "; the tokens between are missing");
        }
        if (start + tokens > contextLength) {
            failed = true;
            int before = Math.min(turnStart, start);
            throw new IllegalArgumentException("Session " + name + " holds " + before + " tokens, and "
                    + (start + tokens - before) + " or more of this turn do not fit the model's context of "
                    + contextLength + "; shorten the prompt or start a new session");
        }
        passStart = start;
        watch.passBegins(tokens);
        inPass = Thread.currentThread();
    }

    private void refuseUse() {
        if (closed) {
            throw new IllegalStateException("Session " + name + " is closed");
        }
        if (inPass != null && inPass != Thread.currentThread()) {
            throw new IllegalStateException("Session " + name + " is in use by thread " + inPass.getName()
                    + "; wait for its turn to end, or give each conversation a session id of its own");
        }
    }

    /** Leaves a layer; {@code last} if it is the last of the pass. */
    void leave(boolean last) {
        if (last) {
            try {
                watch.passEnds();
            } finally {
                endPass();
            }
        }
    }

    /** Ends a pass in which something was thrown. */
    void abandonPass() {
        failed = true;
        watch.passFails();
        try {
            cache.truncate(Math.min(passStart, cache.length()));
        } catch (RuntimeException e) {
            LOG.log(Level.DEBUG, "Session " + name + " could not be taken back to " + passStart, e);
        }
        endPass();
    }

    private void endPass() {
        boolean close;
        synchronized (this) {
            inPass = null;
            close = closing && !closed;
            closed |= close;
        }
        if (close) {
            free();
        }
    }

    /** Frees everything now, or at the end of the pass that is running. Closing twice is harmless. */
    void close() {
        synchronized (this) {
            closing = true;
            if (inPass != null || closed) {
                return;
            }
            closed = true;
        }
        free();
    }

    private void free() {
        try {
            cache.close();
        } finally {
            watch.closed();
            onClose.run();
        }
    }
}
