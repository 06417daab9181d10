package io.github.tailorkv.spi;

import java.lang.foreign.MemorySegment;
import org.jspecify.annotations.Nullable;

/** The cache and attention of one loaded model: what its sessions share. */
public interface ModelCache extends AutoCloseable {

    /** Opens an empty session. Safe to call from several threads. */
    SessionCache newSession();

    /**
     * Native memory for rows that are handed to {@link SessionCache#attend}, from which and to which this backend copies
     * fastest. It lives until this object is closed, and is not given back before; what it holds at first is undefined.
     *
     * @return null where any memory of the caller's does as well, or there is none left
     */
    default @Nullable MemorySegment lend(long bytes) {
        return null;
    }

    /** Where the attention runs, for logs and the report: {@code panama}, {@code scalar}, {@code cuda}. */
    String backend();

    /** The policy in force, for logs and the report. */
    String policy();

    /** Frees what the sessions share; sessions still open are closed. Closing twice is harmless. */
    @Override
    void close();
}
