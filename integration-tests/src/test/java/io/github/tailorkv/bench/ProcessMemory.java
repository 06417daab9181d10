package io.github.tailorkv.bench;

import java.io.IOException;
import java.lang.management.ManagementFactory;
import java.lang.management.MemoryPoolMXBean;
import java.lang.management.MemoryType;
import java.nio.file.Files;
import java.nio.file.Path;

/**
 * Memory of this process as Linux counts it.
 *
 * @param resident now, in bytes
 * @param residentFiles the part of it that is mapped from files, where stock Jlama keeps its cache
 * @param peakResident highest since the last {@link #resetPeak}
 * @param peakHeap highest use of the Java heap since then, garbage included
 */
record ProcessMemory(long resident, long residentFiles, long peakResident, long peakHeap) {
    private static final Path STATUS = Path.of("/proc/self/status");
    private static final Path CLEAR = Path.of("/proc/self/clear_refs");

    /** All zero but the heap where there is no /proc. */
    static ProcessMemory now() {
        long resident = 0;
        long files = 0;
        long peak = 0;
        try {
            for (String line : Files.readAllLines(STATUS)) {
                if (line.startsWith("VmRSS:")) {
                    resident = bytes(line);
                } else if (line.startsWith("VmHWM:")) {
                    peak = bytes(line);
                } else if (line.startsWith("RssFile:") || line.startsWith("RssShmem:")) {
                    files += bytes(line);
                }
            }
        } catch (IOException e) {
            // No Linux: the columns stay empty.
        }
        long heap = ManagementFactory.getMemoryPoolMXBeans()
                .stream()
                .filter(pool -> pool.getType() == MemoryType.HEAP)
                .mapToLong(pool -> pool.getPeakUsage().getUsed())
                .sum();
        return new ProcessMemory(resident, files, peak, heap);
    }

    static void resetPeak() {
        ManagementFactory.getMemoryPoolMXBeans().forEach(MemoryPoolMXBean::resetPeakUsage);
        try {
            Files.writeString(CLEAR, "5");
        } catch (IOException e) {
            // The peak then covers the whole life of the process.
        }
    }

    private static long bytes(String line) {
        return Long.parseLong(line.replaceAll("\\D", "")) << 10;
    }
}
