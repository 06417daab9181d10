package io.github.tailorkv.live;

import java.lang.System.Logger;
import java.lang.System.Logger.Level;
import java.lang.management.ManagementFactory;
import java.lang.ref.Cleaner;
import javax.management.InstanceAlreadyExistsException;
import javax.management.InstanceNotFoundException;
import javax.management.JMException;
import javax.management.MBeanServer;
import javax.management.MalformedObjectNameException;
import javax.management.ObjectName;

/**
 * The MXBean of one model in the platform's server, which keeps what it is given for ever: so the bean refers to the model
 * weakly, and a cleaner takes it away when the model is garbage, closed or not. Names are tried until one is free, which
 * also keeps apart copies of this class in several class loaders.
 */
final class Registration implements AutoCloseable {
    private static final Logger LOG = System.getLogger("io.github.tailorkv");
    private static final Cleaner CLEANER = Cleaner.create();

    private final String name;
    private final Cleaner.Cleanable end;

    private Registration(String name, Cleaner.Cleanable end) {
        this.name = name;
        this.end = end;
    }

    static Registration of(ModelWatch model) {
        try {
            MBeanServer server = ManagementFactory.getPlatformMBeanServer();
            ObjectName name = register(server, model);
            System.setProperty(ModelMXBean.MARK, "true");
            return new Registration(name.toString(), CLEANER.register(model, () -> unregister(server, name)));
        } catch (JMException | RuntimeException | LinkageError e) {
            // A JVM without JMX serves models all the same.
            LOG.log(Level.DEBUG, "No MXBean for model " + model.served().model(), e);
            return new Registration("", () -> {});
        }
    }

    private static ObjectName register(MBeanServer server, ModelWatch model) throws JMException {
        LiveModel bean = new LiveModel(model);
        for (int number = 1;; number++) {
            ObjectName name = name(model.served().model() + (number == 1 ? "" : "-" + number));
            try {
                server.registerMBean(bean, name);
                return name;
            } catch (InstanceAlreadyExistsException e) {
                // the next number then
            }
        }
    }

    private static ObjectName name(String model) throws MalformedObjectNameException {
        String value = model.matches("[\\w. +-]+") ? model : ObjectName.quote(model);
        return new ObjectName(ModelMXBean.DOMAIN + ":type=Model,name=" + value);
    }

    private static void unregister(MBeanServer server, ObjectName name) {
        try {
            server.unregisterMBean(name);
        } catch (InstanceNotFoundException e) {
            // somebody has cleared the server
        } catch (JMException | RuntimeException e) {
            LOG.log(Level.DEBUG, "Cannot take away the MXBean " + name, e);
        }
    }

    String name() {
        return name;
    }

    @Override
    public void close() {
        end.clean();
    }
}
