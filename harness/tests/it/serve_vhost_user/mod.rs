//! A device served over vhost-user: to a front end made here, and to a running UML whose disk grows
//! under it.

mod front_end;
mod killed_server;
mod notes;
mod one_client;
mod queues;
mod running_uml;

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use crossbeam_channel::bounded;
use driver::device_spec::DeviceSpec;
use driver::open::{OpenOptions, create};
use driver::resize::{Resized, Strategy};
use driver::units::Bytes;
use harness::device::Io;
use harness::replay::ReplayDriver;
use harness::serve::vhost_user::VhostUser;
use harness::serve::{Endpoint, Export, Opening, Up};
use userhelper::planner::{Shrink, Wish};
use userhelper::real_files::RealHost;

use crate::support::cli::Sandbox;

/// A device that is served at a socket.
struct Served {
    sandbox: Sandbox,
    up: Option<Up>,
    endpoint: Option<VhostUser>,
    /// What the server has said.
    told: Arc<Mutex<Vec<String>>>,
}

impl Served {
    /// Serves `cow`, which is made anew over `backing` with the alignment.
    fn new(sandbox: Sandbox, alignment: u32) -> Served {
        let (cow, backing) = (sandbox.path("cow"), sandbox.path("backing"));
        drop(create(&RealHost, &cow, &backing, Some(alignment)).unwrap());
        Served::existing(sandbox)
    }

    fn existing(sandbox: Sandbox) -> Served {
        let opening = Opening {
            spec: DeviceSpec::of(sandbox.path("cow")),
            options: OpenOptions::default(),
            driver: ReplayDriver::Ordered,
            io: Io::Auto,
            allow_shrink: false,
        };
        let told = Arc::new(Mutex::new(Vec::new()));
        let tells = Arc::clone(&told);
        let tells =
            move |line: &dyn std::fmt::Display| tells.lock().unwrap().push(line.to_string());
        let (ends, _) = bounded(1);
        let up = opening.bring_up(Box::new(tells), ends).unwrap();
        let endpoint = VhostUser::listen(&up.export, &sandbox.path("sock")).unwrap();
        Served {
            sandbox,
            up: Some(up),
            endpoint: Some(endpoint),
            told,
        }
    }

    fn export(&self) -> &Export {
        &self.up.as_ref().unwrap().export
    }

    fn socket(&self) -> PathBuf {
        self.sandbox.path("sock")
    }

    fn grow(&self, new_size: Bytes, strategy: Strategy) -> Resized {
        let wish = Wish {
            new_size,
            strategy: Some(strategy),
            shrink: Shrink::Refuse,
            online: true,
        };
        self.export().resize(wish).unwrap()
    }

    fn told(&self) -> Vec<String> {
        self.told.lock().unwrap().clone()
    }

    /// Stops the endpoint and closes the device.
    fn close(mut self) -> Sandbox {
        Box::new(self.endpoint.take().unwrap()).stop();
        assert!(!self.socket().exists());
        self.up.take().unwrap().close().unwrap();
        self.sandbox
    }
}
