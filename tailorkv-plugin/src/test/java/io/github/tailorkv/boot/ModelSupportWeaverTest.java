package io.github.tailorkv.boot;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotNull;
import static org.junit.jupiter.api.Assertions.assertNull;

import java.io.IOException;
import java.io.InputStream;
import java.lang.classfile.ClassFile;
import java.lang.classfile.MethodModel;
import java.lang.classfile.Opcode;
import java.lang.classfile.instruction.InvokeInstruction;
import java.lang.classfile.instruction.ReturnInstruction;
import java.lang.constant.ClassDesc;
import java.util.List;
import org.junit.jupiter.api.Test;

/** The weaver on the class file of the real Jlama. */
class ModelSupportWeaverTest {
    private static final ClassLoader LOADER = ModelSupportWeaverTest.class.getClassLoader();

    @Test
    void callsTheHookBeforeEachReturnOfTheMethodThatEveryLoadEndsIn() throws IOException {
        byte[] woven = ModelSupportWeaver.weave(modelSupport(), LOADER);
        assertNotNull(woven);
        for (MethodModel method : methods(woven)) {
            boolean last = method.methodName().equalsString("loadModel")
                    && method.methodTypeSymbol().parameterCount() == 9;
            assertEquals(last ? returns(method) : 0, hookCalls(method), () -> method.methodName() + " of Jlama");
        }
    }

    @Test
    void leavesWhatIsWoven() throws IOException {
        byte[] woven = ModelSupportWeaver.weave(modelSupport(), LOADER);
        assertNotNull(woven);
        assertNull(ModelSupportWeaver.weave(woven, LOADER));
    }

    @Test
    void leavesAnotherModelSupport() {
        assertNull(ModelSupportWeaver.weave(
                ClassFile.of().build(ClassDesc.of(ModelSupportWeaver.CLASS), builder -> {}), LOADER));
    }

    @Test
    void leavesWhatIsNoClassFile() {
        assertNull(ModelSupportWeaver.weave(new byte[] {1, 2, 3}, LOADER));
    }

    @Test
    void leavesClassesWhoseLoaderDoesNotSeeTheHook() throws IOException {
        assertNull(ModelSupportWeaver.weave(modelSupport(), ClassLoader.getPlatformClassLoader()));
        assertNull(ModelSupportWeaver.weave(modelSupport(), null));
    }

    private static byte[] modelSupport() throws IOException {
        try (InputStream file = LOADER
                .getResourceAsStream(ModelSupportWeaver.CLASS.replace('.', '/') + ".class")) {
            assertNotNull(file);
            return file.readAllBytes();
        }
    }

    private static List<MethodModel> methods(byte[] classFile) {
        return ClassFile.of().parse(classFile).methods();
    }

    private static long returns(MethodModel method) {
        return method.code().orElseThrow().elementStream()
                .filter(element -> element instanceof ReturnInstruction end && end.opcode() == Opcode.ARETURN)
                .count();
    }

    private static long hookCalls(MethodModel method) {
        return method.code().stream()
                .flatMap(code -> code.elementStream())
                .filter(element -> element instanceof InvokeInstruction call
                        && call.owner().asInternalName().equals("io/github/tailorkv/boot/LoadHook"))
                .count();
    }
}
