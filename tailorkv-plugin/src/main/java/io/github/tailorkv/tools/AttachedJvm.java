package io.github.tailorkv.tools;

import com.sun.tools.attach.AttachNotSupportedException;
import com.sun.tools.attach.VirtualMachine;
import com.sun.tools.attach.VirtualMachineDescriptor;
import io.github.tailorkv.live.ModelMXBean;
import java.io.IOException;
import java.lang.reflect.UndeclaredThrowableException;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.List;
import java.util.Optional;
import java.util.Properties;
import java.util.Set;
import javax.management.InstanceNotFoundException;
import javax.management.JMException;
import javax.management.JMX;
import javax.management.MBeanServerConnection;
import javax.management.ObjectName;
import javax.management.RuntimeMBeanException;
import javax.management.remote.JMXConnector;
import javax.management.remote.JMXConnectorFactory;
import javax.management.remote.JMXServiceURL;

/** Another JVM of this machine and user, seen through JMX: its management agent is started if it is not running. */
final class AttachedJvm implements AutoCloseable {

    /**
     * A JVM that has TailorKV.
     *
     * @param command main class or jar, and its arguments
     * @param served whether a model was served there
     */
    record Candidate(String pid, String command, boolean served) {}

    private final long pid;
    private final JMXConnector connector;
    private final MBeanServerConnection server;

    private AttachedJvm(long pid, JMXConnector connector) throws IOException {
        this.pid = pid;
        this.connector = connector;
        server = connector.getMBeanServerConnection();
    }

    /** The JVMs of this user in which TailorKV is switched on or serves a model. */
    static List<Candidate> candidates() throws ToolException {
        requireAttach();
        List<Candidate> found = new ArrayList<>();
        String self = String.valueOf(ProcessHandle.current().pid());
        for (VirtualMachineDescriptor descriptor : VirtualMachine.list()) {
            if (!descriptor.id().equals(self)) {
                properties(descriptor).ifPresent(properties -> {
                    boolean served = Boolean.parseBoolean(properties.getProperty(ModelMXBean.MARK));
                    if (served || Boolean.parseBoolean(properties.getProperty("tailorkv.enabled"))) {
                        found.add(new Candidate(descriptor.id(), descriptor.displayName(), served));
                    }
                });
            }
        }
        found.sort(Comparator.comparing(Candidate::pid));
        return found;
    }

    /** Empty for a JVM that has ended, or lets nobody in. */
    private static Optional<Properties> properties(VirtualMachineDescriptor descriptor) {
        try {
            VirtualMachine machine = VirtualMachine.attach(descriptor);
            try {
                return Optional.of(machine.getSystemProperties());
            } finally {
                machine.detach();
            }
        } catch (AttachNotSupportedException | IOException e) {
            return Optional.empty();
        }
    }

    /** Attaches to the JVM with that process id. */
    static AttachedJvm attach(long pid) throws ToolException {
        requireAttach();
        ProcessHandle process = ProcessHandle.of(pid)
                .orElseThrow(
                        () -> new ToolException("there is no process " + pid
                                + "; without a PID inspect lists the JVMs that have TailorKV"));
        if (process.equals(ProcessHandle.current())) {
            throw new ToolException("process " + pid + " is this command itself");
        }
        try {
            VirtualMachine machine = VirtualMachine.attach(String.valueOf(pid));
            try {
                boolean enabled = Boolean.parseBoolean(machine.getSystemProperties().getProperty("tailorkv.enabled"));
                return connect(pid, machine.startLocalManagementAgent(), enabled);
            } finally {
                machine.detach();
            }
        } catch (AttachNotSupportedException e) {
            throw new ToolException("process " + pid
                    + " is no JVM, or one that lets nobody attach (-XX:+DisableAttachMechanism)");
        } catch (IOException e) {
            if (!process.isAlive()) {
                throw ended(pid);
            }
            String owner = process.info().user().orElse("");
            String self = System.getProperty("user.name");
            throw new ToolException("cannot attach to process " + pid + (owner.isEmpty() || owner.equals(self)
                    ? ""
                    : ", which belongs to " + owner + "; run inspect as that user") + " (" + e.getMessage() + ")");
        }
    }

    private static void requireAttach() throws ToolException {
        if (ModuleLayer.boot().findModule("jdk.attach").isEmpty()
                || ModuleLayer.boot().findModule("java.management.rmi").isEmpty()) {
            throw new ToolException("this Java lacks the module jdk.attach or java.management.rmi; run inspect with a"
                    + " JDK");
        }
    }

    @SuppressWarnings("BanJNDI") // the address comes from the JVM itself, a process of the same user
    private static AttachedJvm connect(long pid, String address, boolean enabled) throws ToolException, IOException {
        AttachedJvm jvm = new AttachedJvm(pid, JMXConnectorFactory.connect(new JMXServiceURL(address)));
        boolean done = false;
        try {
            if (jvm.names().isEmpty()) {
                throw new ToolException(
                        enabled
                                ? "TailorKV is switched on in process " + pid
                                        + ", but serves no model at the moment; its"
                                        + " log says why, unless none is loaded yet"
                                : "process " + pid + " has no model that TailorKV serves; start it with"
                                        + " -javaagent:tailorkv.jar -Dtailorkv.enabled=true");
            }
            done = true;
            return jvm;
        } finally {
            if (!done) {
                jvm.close();
            }
        }
    }

    private static ToolException ended(long pid) {
        return new ToolException("process " + pid + " has ended");
    }

    private Set<ObjectName> names() throws ToolException {
        try {
            return server.queryNames(new ObjectName(ModelMXBean.DOMAIN + ":type=Model,*"), null);
        } catch (IOException e) {
            throw ended(pid);
        } catch (JMException e) {
            throw new IllegalStateException(e);
        }
    }

    /** Reads all models, in the order of their names; those that are closed meanwhile are left out. */
    List<ModelSnapshot> models() throws ToolException {
        List<ModelSnapshot> all = new ArrayList<>();
        for (ObjectName name : names().stream().sorted().toList()) {
            onModel(name, bean -> all.add(ModelSnapshot.of(ObjectName.unquote(quoted(name)), bean)));
        }
        return all;
    }

    private static String quoted(ObjectName name) {
        String value = name.getKeyProperty("name");
        return value.startsWith("\"") ? value : ObjectName.quote(value);
    }

    /** Asks for samples for some seconds, in all models. */
    void sampleFor(int every, int seconds) throws ToolException {
        for (ObjectName name : names()) {
            onModel(name, bean -> bean.sampleFor(every, seconds));
        }
    }

    private interface Use {
        void of(ModelMXBean model);
    }

    private void onModel(ObjectName name, Use use) throws ToolException {
        try {
            use.of(JMX.newMXBeanProxy(server, name, ModelMXBean.class));
        } catch (UndeclaredThrowableException e) {
            if (e.getCause() instanceof InstanceNotFoundException) {
                return;
            }
            if (e.getCause() instanceof IOException) {
                throw ended(pid);
            }
            throw new ToolException("process " + pid + " has another version of TailorKV; inspect it with that jar ("
                    + e.getCause() + ")");
        } catch (RuntimeMBeanException | IllegalStateException e) {
            // garbage, and about to be taken away
        }
    }

    @Override
    public void close() {
        try {
            connector.close();
        } catch (IOException e) {
            // the other side is gone
        }
    }
}
