package io.github.tailorkv.jlama;

import com.github.tjake.jlama.tensor.KvBufferCache;
import com.google.common.base.Throwables;
import com.google.common.collect.MapMaker;
import io.github.tailorkv.live.ModelWatch;
import io.github.tailorkv.report.RunReport;
import io.github.tailorkv.spi.LayerStatistics;
import io.github.tailorkv.spi.ModelCache;
import io.github.tailorkv.spi.SessionCache;
import java.lang.System.Logger;
import java.lang.System.Logger.Level;
import java.lang.ref.Cleaner;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.UUID;
import java.util.concurrent.ConcurrentMap;
import org.jspecify.annotations.Nullable;

/**
 * The sessions of one model, from the opening of its cache to the closing.
 *
 * <p>A session is <em>busy</em> from {@code getKvBuffer} to the buffer's {@code close}, which is one turn, and <em>idle</em>
 * between turns. Jlama tells nobody when a conversation is over, so idle sessions are kept until their number or their
 * memory exceeds a bound; the one idle for the longest goes first. Buffers of another {@link KvBufferCache}, as a
 * distributed worker has its own, are served as sessions that end when the buffer is garbage.
 *
 * <p>Whatever holds native memory is freed exactly once by its {@link Session}. Closing this object closes the idle
 * sessions at once and the others when their turn or pass ends; the model's cache is closed with the last of them.
 */
final class ModelSessions {
    private static final Logger LOG = System.getLogger("io.github.tailorkv");
    private static final Cleaner CLEANER = Cleaner.create();

    /** Ids of evicted sessions that are remembered for a warning. */
    private static final int REMEMBERED = 10_000;

    /** @param bytes what it holds, resident and offloaded */
    private record Idle(Session session, long bytes) {}

    private final TailorKvBufferCache owner;
    private final ModelCache cache;
    private final int contextLength;
    private final int idleLimit;
    private final long idleBytesLimit;
    private final RunReport report;
    private final RunReport.Server server;
    private final ModelWatch watch;
    private final Scratch.Pool scratch;

    private final Map<UUID, SessionKvBuffer> busy = new HashMap<>();
    private final LinkedHashMap<UUID, Idle> idle = new LinkedHashMap<>();
    private final ConcurrentMap<KvBufferCache.KvBuffer, Session> foreign = new MapMaker().weakKeys().makeMap();
    private final Map<UUID, Boolean> evicted = new LinkedHashMap<>() {
        @Override
        protected boolean removeEldestEntry(Map.Entry<UUID, Boolean> eldest) {
            return size() > REMEMBERED;
        }
    };
    private final List<UUID> doomed = new ArrayList<>();
    private long idleBytes;
    private int open;
    private boolean closed;

    ModelSessions(TailorKvBufferCache owner, ModelCache cache, int contextLength, int idleLimit, long idleBytesLimit,
            RunReport report, RunReport.Server server, ModelWatch watch) {
        this.owner = owner;
        this.cache = cache;
        this.contextLength = contextLength;
        this.idleLimit = idleLimit;
        this.idleBytesLimit = idleBytesLimit;
        this.report = report;
        this.server = server;
        this.watch = watch;
        scratch = new Scratch.Pool(cache::lend);
    }

    /**
     * Begins a turn; null if closed.
     *
     * @throws IllegalStateException if another thread is in a turn of this session
     */
    synchronized @Nullable SessionKvBuffer begin(UUID id) {
        if (closed) {
            return null;
        }
        SessionKvBuffer running = busy.get(id);
        if (running != null) {
            Thread thread = running.owner();
            if (thread != Thread.currentThread() && thread.isAlive()) {
                throw new IllegalStateException("Session " + id + " is in use by thread " + thread.getName()
                        + "; wait for its turn to end, or give each conversation a session id of its own");
            }
            running.takeOver();
            return running;
        }
        Idle waiting = idle.remove(id);
        Session session;
        if (waiting != null) {
            idleBytes -= waiting.bytes;
            session = waiting.session;
        } else {
            if (evicted.remove(id) != null) {
                LOG.log(Level.WARNING, "Session " + id + " had been idle and was freed to make room; it starts empty. "
                        + "Raise tailorkv.idle.sessions or tailorkv.idle.memory to keep more sessions.");
            }
            session = open(id.toString());
        }
        session.beginTurn();
        SessionKvBuffer turn = new SessionKvBuffer(owner, id, session, this::end);
        busy.put(id, turn);
        return turn;
    }

    /** A session of a single turn; null if closed. */
    synchronized @Nullable SessionKvBuffer beginEphemeral() {
        if (closed) {
            return null;
        }
        UUID id = UUID.randomUUID();
        Session session = open("for an embedding");
        session.beginTurn();
        return new SessionKvBuffer(
                owner, id, session,
                turn -> all(List.of(
                        () -> report.sessionHolds(server, session.cache().statistics(), session.sampled()),
                        session::close)));
    }

    /** The session of a buffer that is not ours; null if closed. */
    @Nullable
    Session foreign(KvBufferCache.KvBuffer buffer) {
        Session known = foreign.get(buffer);
        if (known != null) {
            return known;
        }
        synchronized (this) {
            if (closed) {
                return null;
            }
            return foreign.computeIfAbsent(buffer, b -> {
                Session session = open("of a buffer that TailorKV did not make");
                session.beginTurn();
                CLEANER.register(b, session::close);
                return session;
            });
        }
    }

    private Session open(String name) {
        SessionCache opened = cache.newSession();
        Session session = new Session(
                name, opened, watch.sessionOpened(name, opened), scratch, contextLength, this::sessionClosed);
        open++;
        report.sessionOpened(server);
        return session;
    }

    private void end(SessionKvBuffer turn) {
        Session session = turn.endedSession();
        List<LayerStatistics> layers;
        try {
            layers = session.endTurn();
            report.sessionHolds(server, layers, session.sampled());
        } catch (RuntimeException | Error e) {
            synchronized (this) {
                busy.remove(turn.id());
                doomed.remove(turn.id());
            }
            all(List.of(() -> sayThatItIsLost(turn, e), session::close));
            return;
        }
        long bytes = layers.stream().mapToLong(l -> l.residentBytes() + l.offloadedBytes()).sum();
        List<Runnable> ends = new ArrayList<>();
        synchronized (this) {
            busy.remove(turn.id());
            if (doomed.remove(turn.id()) || closed) {
                ends.add(session::close);
            } else {
                idle.put(turn.id(), new Idle(session, bytes));
                idleBytes += bytes;
                evict(ends);
            }
        }
        all(ends);
    }

    private static void sayThatItIsLost(SessionKvBuffer turn, Throwable cause) {
        LOG.log(Level.WARNING, "Session " + turn.id() + " is lost, it starts empty next time: " + cause);
        if (cause instanceof Error error) {
            throw error;
        }
    }

    /** Runs all of them, whatever one throws; throws the first of it, with the rest suppressed. */
    private static void all(List<Runnable> actions) {
        Throwable thrown = null;
        for (Runnable action : actions) {
            try {
                action.run();
            } catch (RuntimeException | Error e) {
                if (thrown == null) {
                    thrown = e;
                } else if (!thrown.equals(e)) {
                    thrown.addSuppressed(e);
                }
            }
        }
        if (thrown != null) {
            Throwables.throwIfUnchecked(thrown);
        }
    }

    private void evict(List<Runnable> ends) {
        var oldest = idle.entrySet().iterator();
        while (oldest.hasNext() && (idle.size() > idleLimit || idleBytes > idleBytesLimit)) {
            var entry = oldest.next();
            oldest.remove();
            idleBytes -= entry.getValue().bytes;
            evicted.put(entry.getKey(), true);
            ends.add(entry.getValue().session::close);
        }
    }

    /** Frees a session, if it is in a turn at the end of that turn. */
    void forget(UUID id) {
        Idle waiting;
        synchronized (this) {
            evicted.remove(id);
            waiting = idle.remove(id);
            if (waiting != null) {
                idleBytes -= waiting.bytes;
            } else if (busy.containsKey(id) && !doomed.contains(id)) {
                doomed.add(id);
            }
        }
        if (waiting != null) {
            waiting.session.close();
        }
    }

    private void sessionClosed() {
        boolean last;
        synchronized (this) {
            open--;
            last = closed && open == 0;
        }
        if (last) {
            cache.close();
        }
    }

    /** Frees everything that is not in use, and the rest as soon as it is not. */
    void close() {
        List<Runnable> ends = new ArrayList<>();
        synchronized (this) {
            if (closed) {
                return;
            }
            closed = true;
            if (open == 0) {
                ends.add(cache::close);
            }
            idle.values().forEach(i -> ends.add(i.session::close));
            idle.clear();
            foreign.values().forEach(session -> ends.add(session::close));
            foreign.clear();
        }
        ends.add(watch::close);
        ends.add(report::write);
        all(ends);
    }
}
