package io.github.tailorkv.it;

import com.github.tjake.jlama.model.AbstractModel;
import com.github.tjake.jlama.model.ModelSupport;
import com.github.tjake.jlama.safetensors.DType;
import io.github.tailorkv.TailorKv;
import io.github.tailorkv.models.Architecture;
import io.github.tailorkv.models.JlamaSession;
import io.github.tailorkv.models.ModelSpec;
import io.github.tailorkv.models.RandomModels;
import java.io.File;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.UUID;

/**
 * Opens 1,000 sessions one after another and prints by how much the resident memory of its JVM grew:
 * {@code OpenAndClose MODEL_FOLDER CLOSING}.
 */
public final class OpenAndClose {
    /** Who closes a session. */
    enum Closing {
        /** The application. */
        EXPLICIT,
        /** Newer sessions, which push it out. */
        EVICTION
    }

    /** 1,024 bytes a token in the cache. */
    static final ModelSpec SPEC = ModelSpec.builder(Architecture.MISTRAL).hidden(64).heads(4, 2).headSize(32).build();

    private static final int WARM_UP = 300;
    private static final int SESSIONS = 1000;
    private static final int TOKENS = 256;

    private OpenAndClose() {}

    public static void main(String[] args) throws Exception {
        Closing closing = Closing.valueOf(args[1]);
        int[] tokens = RandomModels.tokens(SPEC, TOKENS, 1);
        try (AbstractModel model = TailorKv
                .install(ModelSupport.loadModel(new File(args[0]), DType.F32, DType.F32))) {
            long before = 0;
            for (int i = 0; i < WARM_UP + SESSIONS; i++) {
                if (i == WARM_UP) {
                    before = residentKib();
                }
                UUID id = UUID.randomUUID();
                try (JlamaSession session = JlamaSession.open(model, id)) {
                    session.prefill(tokens);
                }
                if (closing == Closing.EXPLICIT) {
                    TailorKv.closeSession(model, id);
                }
            }
            System.out.println("grown by KiB: " + (residentKib() - before));
            System.out.println("KiB held by all sessions together: " + SESSIONS * TOKENS);
        }
    }

    /** After a collection, for a buffer of Jlama lives until its owner is garbage. */
    private static long residentKib() throws IOException, InterruptedException {
        for (int i = 0; i < 3; i++) {
            System.gc();
            Thread.sleep(100);
        }
        return Files.readAllLines(Path.of("/proc/self/status")).stream()
                .filter(line -> line.startsWith("VmRSS:"))
                .mapToLong(line -> Long.parseLong(line.replaceAll("\\D", "")))
                .findFirst()
                .orElseThrow();
    }
}
