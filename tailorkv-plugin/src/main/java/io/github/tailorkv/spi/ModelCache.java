package io.github.tailorkv.spi;

/** The cache and attention of one loaded model: what its sessions share. */
public interface ModelCache extends AutoCloseable {

    /** Opens an empty session. Safe to call from several threads. */
    SessionCache newSession();

    /** Where the attention runs, for logs and the report: {@code panama}, {@code scalar}, {@code cuda}. */
    String backend();

    /** The policy in force, for logs and the report. */
    String policy();

    /** Frees what the sessions share; sessions still open are closed. Closing twice is harmless. */
    @Override
    void close();
}
