package io.github.tailorkv.it;

import static org.junit.jupiter.api.Assertions.assertTrue;

import com.github.tjake.jlama.model.AbstractModel;
import com.github.tjake.jlama.model.ModelSupport;
import com.github.tjake.jlama.safetensors.DType;
import com.github.tjake.jlama.safetensors.prompt.PromptSupport;
import io.github.tailorkv.TailorKv;
import java.nio.file.Path;
import java.util.Optional;
import java.util.UUID;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** Conversations of several turns with the reference model, as Jlama's own command line makes them. */
class ConversationIT {
    private static final String FACTS = "Read this text and remember its details. The road bends gently past the houses. "
            + "Igor Price lives in Ottawa. A light wind moves the tall reeds. Maria Olsen likes to eat trout. "
            + "Nothing much happens here. Igor Price works as a potter. People come and people go.\n";

    /** For Jlama it bounds the whole session, not the answer. */
    private static final int LAST_POSITION = 200;

    @TempDir
    Path pages;

    @BeforeEach
    void exact() {
        System.setProperty("tailorkv.policy", "exact");
    }

    @AfterEach
    void clear() {
        System.clearProperty("tailorkv.policy");
    }

    private AbstractModel load() {
        return ModelSupport.loadModel(
                ChildJvm.MODEL.toFile(), pages.toFile(), DType.F32, DType.I8, Optional.empty(),
                Optional.empty());
    }

    private static String ask(AbstractModel model, UUID session, String question) {
        PromptSupport prompts = model.promptSupport().orElseThrow();
        var prompt = prompts.builder().addUserMessage(question).build();
        return model.generate(session, prompt, 0, LAST_POSITION, (token, time) -> {}).responseText;
    }

    @Test
    void secondTurnRemembersWhatTheFirstWasTold() {
        UUID session = UUID.randomUUID();
        try (AbstractModel model = TailorKv.install(load())) {
            String first = ask(model, session, FACTS + "What does Maria Olsen like to eat?");
            assertTrue(first.contains("trout"), first);
            String second = ask(model, session, "Where does Igor Price live?");
            assertTrue(second.contains("Ottawa"), second);
            String third = ask(model, session, "What is the job of Igor Price?");
            assertTrue(third.contains("potter"), third);
            String stranger = ask(model, UUID.randomUUID(), "Where does Igor Price live?");
            assertTrue(!stranger.contains("Ottawa"), "another session knows nothing: " + stranger);
        }
    }

    /** B1, as the user of Jlama's chat sees it: named, so that we notice when it is mended. */
    @Test
    void stockForgetsTheFirstTurn() {
        UUID session = UUID.randomUUID();
        try (AbstractModel model = load()) {
            String first = ask(model, session, FACTS + "What does Maria Olsen like to eat?");
            assertTrue(first.contains("trout"), first);
            String second = ask(model, session, "Where does Igor Price live?");
            assertTrue(!second.contains("Ottawa"), second);
        }
    }
}
